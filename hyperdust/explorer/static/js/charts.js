// Lines, parts of a whole, and a coin's curve, as SVG. What a picture shows, its label says in words.

import { h, s } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [400, 150, 80, 20, 10];

/** Values over block numbers [[x, y or null]]; where a value is null the line has a gap. */
export function lineChart(points, { label, show, from = null, to = null }) {
  const known = points.filter(([, y]) => y !== null);
  if (!known.length) return h("p", { class: "quiet" }, "Nothing to draw yet.");
  const [least, most] = range(known.map(([, y]) => y), from, to);
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const x = (value) => LEFT + ((value - first) / Math.max(1, last - first)) * (WIDTH - LEFT - 6);
  const y = (value) => HEIGHT - BOTTOM - ((value - least) / (most - least)) * (HEIGHT - BOTTOM - TOP);
  const parts = [];
  points.forEach(([at, value], index) => {
    if (value !== null) parts.push(`${index && points[index - 1][1] !== null ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`);
  });
  const [, now] = known.at(-1);
  const said = `${label}: from ${show(known[0][1])} at block ${known[0][0]} to ${show(now)} at block ${known.at(-1)[0]}`;
  return s("svg", { class: "chart", role: "img", "aria-label": said, viewBox: `0 0 ${WIDTH} ${HEIGHT}` }, s("title", null, said),
    [least, (least + most) / 2, most].map((value) => [
      s("line", { class: "rule", x1: LEFT, x2: WIDTH - 6, y1: y(value), y2: y(value) }),
      s("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, show(value)),
    ]),
    s("path", { class: "line", d: parts.join("") }), s("circle", { class: "needle", cx: x(known.at(-1)[0]), cy: y(now), r: 3 }),
    s("text", { x: LEFT, y: HEIGHT - 4 }, `block ${first}`), s("text", { x: WIDTH - 6, y: HEIGHT - 4, "text-anchor": "end" }, `block ${last}`));
}

function range(values, from, to) {
  const [least, most] = [from ?? Math.min(...values), to ?? Math.max(...values)];
  if (most > least) return [least, most];
  return [Math.min(least, 0), Math.max(most, least + 1, least * 1.25)];
}

/** Parts of a whole [{name, share: 0 to 1, shown, link, tone}], as a bar and a legend below it; `mark` is a line across. */
export function shareBar(parts, { label, mark = null, said = null }) {
  let x = 0;
  const bars = parts.map(({ share, name, shown, tone }, index) => {
    const bar = s("rect", { class: `part p${tone ?? index % 6}`, x: x * WIDTH, y: 0, width: Math.max(0, share * WIDTH - (share < 1 ? 1 : 0)), height: 18 }, s("title", null, `${name}: ${shown}`));
    x += share;
    return bar;
  });
  const words = `${label}: ${parts.map(({ name, shown }) => `${name} ${shown}`).join(", ")}`;
  return h("div", { class: "shares" },
    s("svg", { class: "sharebar", role: "img", "aria-label": words, viewBox: `0 0 ${WIDTH} 18`, preserveAspectRatio: "none" }, s("rect", { class: "track", x: 0, y: 0, width: WIDTH, height: 18 }), bars,
      mark !== null && s("rect", { class: "markline", x: mark * WIDTH - 1, y: 0, width: 2, height: 18 }, s("title", null, said))),
    h("ul", { class: "legend" }, parts.map(({ name, link, shown, tone }, index) => h("li", null, s("svg", { class: "mini", width: 10, height: 10, viewBox: "0 0 10 10", "aria-hidden": "true" }, s("rect", { class: `part p${tone ?? index % 6}`, width: 10, height: 10, rx: 2 })), " ", link ?? name, " ", h("span", { class: "quiet" }, shown)))));
}

/** A coin's price over its supply: the line, what is sold so far, and the reserve as the area under it. In BTC. */
export function curveChart({ base, slope, supply, symbol }, show) {
  const [B, S, N] = [base, slope, supply].map((wei) => Number(wei) / 1e18);
  const far = Math.max(2 * N, 10);
  const [price, top] = [B + S * N, B + S * far || 1];
  const x = (sold) => LEFT + (sold / far) * (WIDTH - LEFT - 10);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
  const said = `Price of ${symbol} by supply: ${show(B)} BTC for the first, ${show(price)} BTC now at ${show(N)} sold; the area up to there is the reserve`;
  return s("svg", { class: "chart", role: "img", "aria-label": said, viewBox: `0 0 ${WIDTH} ${HEIGHT}` }, s("title", null, said),
    s("line", { class: "rule", x1: x(0), x2: x(far), y1: y(0), y2: y(0) }),
    s("path", { class: "area", d: `M${x(0)} ${y(0)}L${x(0)} ${y(B)}L${x(N)} ${y(price)}L${x(N)} ${y(0)}Z` }),
    s("line", { class: "rule", x1: x(0), x2: x(N), y1: y(price), y2: y(price) }),
    s("path", { class: "line", d: `M${x(0)} ${y(B)}L${x(far)} ${y(B + S * far)}` }),
    s("circle", { class: "needle", cx: x(N), cy: y(price), r: 4 }),
    s("text", { x: x(0) - 6, y: y(price) + 4, "text-anchor": "end" }, show(price)), (price - B) / top > 0.12 && s("text", { x: x(0) - 6, y: y(B) + 4, "text-anchor": "end" }, show(B)),
    s("text", { x: x(0), y: HEIGHT - 4 }, "0"), s("text", { x: x(N), y: HEIGHT - 4, "text-anchor": "middle" }, N ? `${show(N)} sold` : ""),
    s("text", { x: WIDTH - 10, y: HEIGHT - 4, "text-anchor": "end" }, `${show(far)} ${symbol}`));
}
