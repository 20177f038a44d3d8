"""The explorer of a running devnet: its pages, its way to the node, its faucet."""

import re
import secrets
import shutil
import subprocess

import httpx
import pytest

from hyperdust.contracts_abi import decode_event
from hyperdust.wallet import role_key

pytestmark = pytest.mark.functional

BTC = 10**18


@pytest.fixture(scope="module")
def explorer(devnet):
    url = devnet.ready.get("explorer")
    if not url:
        pytest.skip("this node runs without an explorer")
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        yield client


def ask(explorer, method, *params):
    answer = explorer.post("/rpc", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def test_the_ready_file_names_it_beside_the_other_ports(devnet, explorer):
    port = int(devnet.rpc.rsplit(":", 1)[1])
    assert devnet.ready["explorer"] == f"http://127.0.0.1:{port + 4}"
    assert len(devnet.ready["pids"]["explorer"]) == 1


def test_the_page_and_every_module_that_it_loads_are_there(explorer):
    page = explorer.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    seen, waiting = set(), re.findall(r'(?:src|href)="(/[^"#]+)"', page.text)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = explorer.get(path)
        assert answer.status_code == 200, path
        for module in re.findall(r'from "(\.[^"]+)"', answer.text):
            waiting.append(str(httpx.URL(f"http://x{path}").join(module).path))
    assert {"/style.css", "/js/main.js", "/js/abi.js", "/js/pages/job.js", "/js/pages/network.js"} <= seen


def test_it_says_the_chains_facts(devnet, explorer):
    facts = explorer.get("/config.json").json()
    assert facts["rpc"] == devnet.rpc
    assert facts["faucet"]["address"] == role_key(19).address
    assert {name: contract["address"] for name, contract in facts["contracts"].items()} == devnet.ready["contracts"]
    named = {graph["name"]: graph["id"] for graph in facts["graphs"]}
    assert named["minilm"] == devnet.ready["graphs"]["minilm"]


def test_what_is_final_is_a_checkpoint_of_the_chains_epochs(devnet, explorer):
    facts = explorer.get("/config.json").json()
    (constants,) = [row for row in facts["finality"] if row["chain_ids"][0] <= devnet.chain_id < row["chain_ids"][1]]
    found = ask(explorer, "hyperdust_finality")
    assert found["final"]["block"] % constants["epoch_blocks"] == 0
    assert found["justified"]["block"] % constants["epoch_blocks"] == 0


def test_it_reads_the_node_and_does_nothing_else(devnet, explorer):
    assert int(ask(explorer, "eth_chainId"), 16) == devnet.chain_id
    assert ask(explorer, "hyperdust_getCertificate", "0x1")["graph"] in devnet.ready["graphs"].values()
    send = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x"]}
    refused = explorer.post("/rpc", json=send)
    assert (refused.status_code, refused.json()["error"]["name"]) == (403, "MethodRefused")


def test_the_first_jobs_words_come_back_from_its_tokens(devnet, explorer):
    if devnet.ready.get("first_job") is None:
        pytest.skip("this devnet runs without its demonstration job")
    asked = ask(explorer, "hyperdust_getJob", 1)["transitions"][0]["transaction"]
    log = ask(explorer, "eth_getTransactionReceipt", asked)["logs"][0]
    topics, data = [bytes.fromhex(word[2:]) for word in log["topics"]], bytes.fromhex(log["data"][2:])
    question = decode_event("JobMarket", "Requested", topics, data)["input"]
    ids = [int.from_bytes(question[place : place + 4], "little") for place in range(0, len(question), 4)]
    words = explorer.get("/words", params={"graph": "minilm", "ids": ",".join(map(str, ids))}).json()
    assert words == {"text": "bitcoin is a peer-to-peer electronic cash system", "exact": True}


def test_the_faucet_pays_once(devnet, explorer, eventually):
    address = "0x" + secrets.token_hex(20)
    answer = explorer.post("/faucet", json={"address": address})
    assert answer.status_code == 200, answer.text
    hash_ = answer.json()["transaction"]
    receipt = eventually(lambda: devnet.request("eth_getTransactionReceipt", hash_))
    assert int(receipt["status"], 16) == 1
    assert int(devnet.request("eth_getBalance", address, "latest"), 16) == BTC // 10
    again = explorer.post("/faucet", json={"address": address})
    assert (again.status_code, again.json()["error"]["name"]) == (429, "TooSoon")


@pytest.mark.parametrize("address", ["0x12", "nobody", "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266"])
def test_a_bad_address_is_named(explorer, address):
    answer = explorer.post("/faucet", json={"address": address})
    assert (answer.status_code, answer.json()["error"]["name"]) == (400, "BadAddress")
    assert address in answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine")
    return found


PAGES = {
    "": ("The chain now", "Last blocks", "Finality", "Who votes"),
    "job/1": ("Job 1", "How it went", "requested", "claimed", "The fee", "Facts"),
    "block/1": ("Block 1", "The work that made it", "Header"),
    "graphs": ("Graphs", "minilm", "Providers"),
    "agents": ("Agents", "An agent is a contract"),
    "agent/999999": ("Not shown", "There is no agent 999999 on this chain."),
    "disputes": ("Disputes", "Verdicts", "in blocks 0 to", "Demands"),
    "network": ("Network", "Usefulness", "Block time", "Jobs by state", "Bitcoin", "Who has what at stake"),
    "wallet": ("Wallet and faucet", "Connect a wallet"),
}


@pytest.mark.parametrize("page", PAGES)
def test_a_browser_shows_every_page_in_words(devnet, explorer, browser, tmp_path, page):
    if page == "job/1" and devnet.ready.get("first_job") is None:
        pytest.skip("this devnet runs without its demonstration job")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    url = f"{devnet.ready['explorer']}/#/{page}"
    done = subprocess.run(
        [*command, "--virtual-time-budget=8000", url], capture_output=True, text=True, timeout=90, check=False
    )
    text = re.sub(r"<[^>]+>", "\n", done.stdout.partition("<main")[2].partition("</main>")[0])
    for words in PAGES[page]:
        assert words in text, (words, text[:2000], done.stderr[-1000:])
    assert not re.search(r"undefined|NaN|\[object|Infinity", text)
    assert (page == "agent/999999") == ("Not shown" in text)
