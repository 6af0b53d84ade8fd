//! Telling how far a migration has come.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Between two lines in a log, and between two states of a terminal's line.
const LINES: Duration = Duration::from_secs(5);
const REDRAWN: Duration = Duration::from_millis(200);
/// Characters of a bar.
const WIDTH: usize = 30;

/// Tells it on the standard error: a bar on a terminal, lines elsewhere.
pub(super) struct Progress {
    terminal: bool,
    state: Mutex<State>,
}

struct State {
    told: Option<Instant>,
    /// The phase, where it began, and when.
    phase: &'static str,
    from: i64,
    since: Instant,
    drawn: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let state = State { told: None, phase: "", from: 0, since: Instant::now(), drawn: false };
        Self { terminal: std::io::stderr().is_terminal(), state: Mutex::new(state) }
    }

    /// A phase begins at a revision.
    pub(super) fn begin(&self, phase: &'static str, from: i64) {
        let mut state = self.lock();
        end_line(&mut state);
        let now = Instant::now();
        (state.phase, state.from, state.since, state.told) = (phase, from, now, Some(now));
    }

    /// The phase is at a revision, on the way to another.
    pub(super) fn at(&self, revision: i64, goal: i64) {
        let mut state = self.lock();
        let pause = if self.terminal { REDRAWN } else { LINES };
        if state.told.is_some_and(|told| told.elapsed() < pause) {
            return;
        }
        state.told = Some(Instant::now());
        let (done, all) = ((revision - state.from).max(0), (goal - state.from).max(1));
        let percent = (done.saturating_mul(100) / all).clamp(0, 100);
        let seconds = state.since.elapsed().as_secs_f64();
        let rate = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
        let text = format!("{} revision {revision} of {goal} ({percent}%, {rate:.0}/s)", state.phase);
        if self.terminal {
            let filled = WIDTH * percent as usize / 100;
            let bar = format!("{}{}", "#".repeat(filled), ".".repeat(WIDTH - filled));
            let _ = write!(std::io::stderr(), "\r\x1b[K[{bar}] {text}");
            state.drawn = true;
        } else {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Something that is told once.
    pub(super) fn say(&self, text: &str) {
        end_line(&mut self.lock());
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn end_line(state: &mut State) {
    if std::mem::take(&mut state.drawn) {
        let _ = writeln!(std::io::stderr());
    }
}
