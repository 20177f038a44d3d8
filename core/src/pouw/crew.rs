//! Threads that stand by for the parts of a product: waking one costs as much as a small product.
//!
//! A worker that has finished looks out for the next job a little longer, then sleeps. A job waits only for workers
//! that took part of it, so one that comes too late costs nothing. Where as many threads call as there are cores each
//! keeps to its own core.

use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a worker looks out before it sleeps: longer than Python needs between two steps of a graph.
const LOOK_OUT: Duration = Duration::from_micros(200);
/// Looks between two glances at the clock, after which others may have the core.
const LOOKS: usize = 64;
/// Callers are counted over two windows of 2^12 us: longer than a step, shorter than a job.
const WINDOW_BITS: u32 = 12;

/// One job: `call(task, index)` for each index below `tasks`.
#[derive(Clone, Copy)]
struct Job {
    task: *const (),
    call: unsafe fn(*const (), usize),
    tasks: usize,
}

struct Crew {
    taken: AtomicBool,
    job: UnsafeCell<Job>,
    /// Number of the job << 16 | workers in it. A job's number is odd while workers may join.
    state: AtomicUsize,
    next: AtomicUsize,
    failed: AtomicBool,
    asleep: Vec<AtomicBool>,
    threads: OnceLock<Vec<Thread>>,
}

const NUMBER: usize = 1 << 16;

// SAFETY: whoever runs a job keeps its task alive, and a task may be called from any thread.
unsafe impl Send for Job {}
// SAFETY: `job` is written only by the caller that holds `taken` while the state is closed and nobody is in the job;
// workers read it only after they joined an open job.
unsafe impl Sync for Crew {}

unsafe fn nothing(_: *const (), _: usize) {}

/// # Safety
/// `task` points to an F that outlives the call.
unsafe fn call<F: Fn(usize) + Sync>(task: *const (), index: usize) {
    // SAFETY: the caller's.
    unsafe { (*task.cast::<F>())(index) }
}

fn crew() -> &'static Crew {
    static CREW: OnceLock<Crew> = OnceLock::new();
    let crew = CREW.get_or_init(|| Crew {
        taken: AtomicBool::new(false),
        job: UnsafeCell::new(Job {
            task: std::ptr::null(),
            call: nothing,
            tasks: 0,
        }),
        state: AtomicUsize::new(0),
        next: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        asleep: (1..rayon::current_num_threads())
            .map(|_| AtomicBool::new(false))
            .collect(),
        threads: OnceLock::new(),
    });
    crew.threads.get_or_init(|| {
        let start = |index| {
            let builder = thread::Builder::new().name(format!("crew-{index}"));
            let handle = builder.spawn(move || stand_by(crew, index));
            handle.ok().map(|handle| handle.thread().clone())
        };
        (0..crew.asleep.len()).filter_map(start).collect()
    });
    crew
}

/// What a worker does for ever.
fn stand_by(crew: &'static Crew, index: usize) {
    let mut done = 0;
    let mut idle_since = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if crew.join(&mut done) {
                idle_since = Instant::now();
            }
            std::hint::spin_loop();
        }
        if idle_since.elapsed() < LOOK_OUT {
            thread::yield_now();
            continue;
        }
        crew.asleep[index].store(true, Ordering::SeqCst);
        // a job opened before the flag was seen is found here; one opened after it wakes this thread
        while crew.asleep[index].load(Ordering::SeqCst) && !crew.is_new(done) {
            thread::park();
        }
        crew.asleep[index].store(false, Ordering::SeqCst);
        idle_since = Instant::now();
    }
}

impl Crew {
    fn is_new(&self, done: usize) -> bool {
        let number = self.state.load(Ordering::SeqCst) / NUMBER;
        number % 2 == 1 && number != done
    }

    /// Take part in an open job that is not `done`.
    fn join(&self, done: &mut usize) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        let number = state / NUMBER;
        if number.is_multiple_of(2) || number == *done {
            return false;
        }
        let joined =
            self.state
                .compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
        if joined.is_err() {
            return false;
        }
        *done = number;
        // SAFETY: the job was open when this thread joined, and stays until it leaves.
        let job = unsafe { *self.job.get() };
        let work = AssertUnwindSafe(|| self.work(&job));
        if catch_unwind(work).is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        self.state.fetch_sub(1, Ordering::Release);
        true
    }

    fn work(&self, job: &Job) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= job.tasks {
                return;
            }
            // SAFETY: `run` keeps the task alive until everyone has left the job.
            unsafe { (job.call)(job.task, index) };
        }
    }

    /// Run a job with whoever joins. False where another thread's job is running.
    fn run<F: Fn(usize) + Sync>(&self, tasks: usize, task: &F) -> bool {
        if self.taken.swap(true, Ordering::Acquire) {
            return false;
        }
        let job = Job {
            task: std::ptr::from_ref(task).cast(),
            call: call::<F>,
            tasks,
        };
        // SAFETY: the job is closed and empty, and `taken` keeps other callers out.
        unsafe { *self.job.get() = job };
        self.next.store(0, Ordering::Relaxed);
        self.failed.store(false, Ordering::Relaxed);
        self.state.fetch_add(NUMBER, Ordering::SeqCst);
        for (asleep, thread) in self
            .asleep
            .iter()
            .zip(self.threads.get().into_iter().flatten())
        {
            if asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
                thread.unpark();
            }
        }
        let mine = catch_unwind(AssertUnwindSafe(|| self.work(&job)));
        self.state.fetch_add(NUMBER, Ordering::Relaxed);
        let mut looks = 0;
        while !self.state.load(Ordering::Acquire).is_multiple_of(NUMBER) {
            looks += 1;
            if looks % LOOKS == 0 {
                thread::yield_now();
            }
            std::hint::spin_loop();
        }
        let failed = self.failed.load(Ordering::Relaxed);
        self.taken.store(false, Ordering::Release);
        if let Err(panic) = mine {
            std::panic::resume_unwind(panic);
        }
        assert!(!failed, "a worker panicked");
        true
    }
}

/// Threads that called lately, this one among them.
fn callers() -> usize {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    /// Window << 32 | callers of the window before << 16 | callers of this one.
    static WINDOW: AtomicU64 = AtomicU64::new(0);
    thread_local! { static SEEN: Cell<u64> = const { Cell::new(u64::MAX) } }
    let elapsed = STARTED.get_or_init(Instant::now).elapsed().as_micros() as u64;
    let now = (elapsed >> WINDOW_BITS) & 0xffff_ffff;
    let counted = SEEN.replace(now) == now;
    let mut after = 0;
    let update = WINDOW.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
        let (window, before, count) = (held >> 32, held >> 16 & 0xffff, held & 0xffff);
        let (before, count) = match now.wrapping_sub(window) {
            0 if counted => (before, count),
            0 => (before, (count + 1).min(0xffff)),
            1 => (count, 1),
            _ => (0, 1),
        };
        after = before.max(count);
        let new = now << 32 | before << 16 | count;
        (new != held).then_some(new)
    });
    let _same = update.is_err();
    after as usize
}

/// Run tasks on all cores where that is asked for and they are free, or in order on this one.
pub fn each(parallel: bool, tasks: usize, task: impl Fn(usize) + Sync) {
    if parallel && tasks > 1 {
        let crew = crew();
        if callers() <= crew.asleep.len() && crew.run(tasks, &task) {
            return;
        }
    }
    (0..tasks).for_each(task);
}

/// How many threads there are.
pub fn threads() -> usize {
    crew().asleep.len() + 1
}
