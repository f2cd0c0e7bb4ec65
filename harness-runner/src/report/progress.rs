//! The progress bar with the tests that are running and their clocks.
//!
//! The bar draws into a buffer that it shares with the lines above it, so that a batch of lines
//! and the redrawn bar reach the terminal in one write. Nothing here has a thread or a clock:
//! time is what the session's ticks and the events say.

use super::{
    fit::{clipped, without_middle},
    style::{Styles, escaped, paint},
    wording,
};
use harness_metadata::{
    RunStats, TestId,
    event::{RunningState, StressStarted},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fmt, io,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

/// The form of progress.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgressMode {
    /// A bar on a terminal outside of CI, a counter otherwise.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// A bar.
    Bar,
    /// A counter in each line.
    Counter,
    /// A bar, and no lines for tests that passed.
    Only,
}

impl ProgressMode {
    /// Returns the mode in force: never `Auto`, and a bar only where the cursor can be moved.
    /// `unobtrusive` is what `Auto` goes by: whether a bar is not wanted though it could be had.
    pub fn resolve(self, surface: Surface, unobtrusive: bool) -> Self {
        match (self, surface) {
            (Self::Auto, Surface::Full) if !unobtrusive => Self::Bar,
            (Self::Auto, _) => Self::Counter,
            (Self::Bar | Self::Only, Surface::None) => Self::None,
            (Self::Bar | Self::Only, Surface::Plain) => Self::Counter,
            (other, _) => other,
        }
    }
}

/// The place where progress is shown.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Surface {
    /// A file or a pipe.
    None,
    /// A terminal that knows no control sequences (`TERM=dumb`), or may not.
    Plain,
    /// A terminal.
    Full,
}

/// Returns the columns and rows of the terminal at standard error, if there is one.
pub fn terminal_size() -> Option<(u16, u16)> {
    size_of(io::stderr())
}

/// Returns the columns and rows of the terminal at a stream, if there is one.
pub fn size_of(stream: impl AsFd) -> Option<(u16, u16)> {
    terminal_size::terminal_size_of(stream).map(|(width, height)| (width.0, height.0))
}

/// The columns of the gauge where there is room.
const GAUGE: usize = 20;

#[derive(Debug)]
struct Running {
    since: Duration,
    order: u64,
    attempt: u32,
    slow: bool,
    state: RunningState,
}

/// The bar. Hidden before the first draw and after [`Bar::finish`].
pub(super) struct Bar {
    screen: Screen,
    bar: ProgressBar,
    text: Arc<Mutex<String>>,
    running: HashMap<TestId, Running>,
    next: u64,
    shown: usize,
    /// The iterations of a stress run.
    stress: Option<StressStarted>,
    styles: Styles,
    unicode: bool,
    visible: bool,
}

impl Bar {
    pub(super) fn new(shown: usize, size: (u16, u16), styles: Styles, unicode: bool) -> Self {
        let screen = Screen {
            bytes: Arc::default(),
            width: Arc::new(AtomicU16::new(size.0)),
            height: Arc::new(AtomicU16::new(size.1)),
            filled: Arc::default(),
        };
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let bar = ProgressBar::with_draw_target(None, target);
        // The text is looked up while it is drawn: setting a message would draw once more.
        let text = Arc::<Mutex<String>>::default();
        let shared = Arc::clone(&text);
        let style = ProgressStyle::with_template("{text}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key(
                "text",
                move |_: &ProgressState, writer: &mut dyn fmt::Write| {
                    let text = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    let _ = writer.write_str(&text);
                },
            );
        bar.set_style(style);
        Self {
            screen,
            bar,
            text,
            running: HashMap::new(),
            next: 0,
            shown,
            stress: None,
            styles,
            unicode,
            visible: true,
        }
    }

    /// The run is a stress run.
    pub(super) fn stress(&mut self, stress: StressStarted) {
        self.stress = Some(stress);
    }

    pub(super) fn started(&mut self, test: TestId, attempt: u32, at: Duration) {
        let running = Running {
            since: at,
            order: self.next,
            attempt,
            slow: false,
            state: RunningState::Running,
        };
        self.next += 1;
        self.running.insert(test, running);
    }

    pub(super) fn slow(&mut self, test: &TestId, terminating: bool) {
        if let Some(running) = self.running.get_mut(test) {
            running.slow = true;
            if terminating {
                running.state = RunningState::Terminating;
            }
        }
    }

    pub(super) fn waiting(&mut self, test: &TestId, at: Duration) {
        if let Some(running) = self.running.get_mut(test) {
            running.state = RunningState::Waiting;
            running.since = at;
        }
    }

    pub(super) fn finished(&mut self, test: &TestId) {
        self.running.remove(test);
    }

    pub(super) fn resize(&self, (width, height): (u16, u16)) {
        self.screen.width.store(width.max(1), Ordering::Relaxed);
        self.screen.height.store(height.max(1), Ordering::Relaxed);
    }

    /// Hides the bar, or shows it again with the next draw.
    pub(super) fn set_visible(&mut self, visible: bool) {
        self.visible = visible;
    }

    /// Returns what to send to the terminal so that `lines` stand above the bar as it is now.
    pub(super) fn draw(&mut self, lines: &[u8], stats: &RunStats, at: Duration) -> Vec<u8> {
        let text = if self.visible {
            self.message(stats, at)
        } else {
            String::new()
        };
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
        // Clears the bar, writes the lines, draws the bar.
        self.bar.suspend(|| self.screen.append(lines));
        self.screen.take()
    }

    /// Returns what clears the bar for good, after `lines`.
    pub(super) fn finish(&mut self, lines: &[u8]) -> Vec<u8> {
        self.bar.finish_and_clear();
        self.screen.append(lines);
        self.screen.take()
    }

    fn heading(&self, at: Duration) -> String {
        let s = at.as_secs();
        let clock = format!("[{:02}:{:02}:{:02}]", s / 3600, s / 60 % 60, s % 60);
        format!("{} {clock}", paint("     Running", self.styles.pass))
    }

    fn gauge(&self, stats: &RunStats, at: Duration, columns: usize) -> String {
        let part = match self.stress {
            Some(StressStarted {
                time: Some(time), ..
            }) => at.as_secs_f64() / time.as_secs_f64(),
            Some(StressStarted {
                iterations: None, ..
            }) => 0.0,
            _ => stats.finished as f64 / stats.selected.max(1) as f64,
        };
        let done = (columns as f64 * part.clamp(0.0, 1.0)) as usize;
        let (full, empty) = if self.unicode {
            ("█", "░")
        } else {
            ("=", "-")
        };
        format!("{}{}", full.repeat(done), empty.repeat(columns - done))
    }

    fn message(&self, stats: &RunStats, at: Duration) -> String {
        let width = usize::from(self.screen.width.load(Ordering::Relaxed));
        let height = usize::from(self.screen.height.load(Ordering::Relaxed));
        let counts: Vec<_> = wording::counts(stats)
            .into_iter()
            .map(|(count, text, _)| {
                format!("{count} {}", text.split(" (").next().unwrap_or_default())
            })
            .collect();
        let total = match self.stress {
            Some(stress) if stress.iterations.is_none() => String::new(),
            _ => format!("/{}", stats.selected),
        };
        let mut message = format!(
            "{}{total}: {} running, {}",
            stats.finished,
            self.running.len(),
            counts.join(", "),
        );
        let columns = if width < 90 { GAUGE / 4 } else { GAUGE };
        // The heading, the gauge and their blanks take the rest.
        message = clipped(&message, width.saturating_sub(columns + 26));
        message = format!(
            "{} {} {message}",
            self.heading(at),
            self.gauge(stats, at, columns)
        );
        let mut running: Vec<_> = self.running.iter().collect();
        running.sort_unstable_by_key(|(_, running)| running.order);
        let room = self.shown.min(height.saturating_sub(3));
        for (test, running) in running.iter().take(room) {
            message.push('\n');
            message.push_str(&self.line(test, running, at, width));
        }
        if running.len() > room && room > 0 {
            message.push_str(&format!(
                "\n             … and {} more",
                running.len() - room
            ));
        }
        message
    }

    fn line(&self, test: &TestId, running: &Running, at: Duration, width: usize) -> String {
        let (tag, style) = match running.state {
            RunningState::Terminating => ("TERMINATING", self.styles.fail),
            RunningState::Waiting => ("DELAY", self.styles.retry),
            RunningState::Draining => ("DRAINING", self.styles.warn),
            RunningState::Running if running.slow => ("SLOW", self.styles.warn),
            RunningState::Running if running.attempt > 1 => ("RETRY", self.styles.retry),
            RunningState::Running => ("", self.styles.pass),
        };
        let elapsed = at.saturating_sub(running.since).as_secs_f64();
        let name = format!(
            "{} {}",
            escaped(test.binary.as_str()),
            escaped(test.name.as_str())
        );
        format!(
            "{} [{elapsed:>8.1}s] {}",
            paint(&format!("{tag:>12}"), style),
            without_middle(&name, width.saturating_sub(26)),
        )
    }
}

/// A terminal of which only the size is real: what is drawn on it is kept to be sent.
#[derive(Clone, Debug)]
struct Screen {
    bytes: Arc<Mutex<Vec<u8>>>,
    width: Arc<AtomicU16>,
    height: Arc<AtomicU16>,
    /// Whether a line has been filled that ends when there is another one.
    filled: Arc<AtomicBool>,
}

impl Screen {
    fn append(&self, bytes: &[u8]) {
        self.bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn control(&self, count: usize, code: char) -> io::Result<()> {
        self.filled.store(false, Ordering::Relaxed);
        if count > 0 {
            self.append(format!("\x1b[{count}{code}").as_bytes());
        }
        Ok(())
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.width.load(Ordering::Relaxed)
    }

    fn height(&self) -> u16 {
        self.height.load(Ordering::Relaxed)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.control(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.control(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.control(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.control(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.append(s.as_bytes());
        self.append(b"\n");
        Ok(())
    }

    /// A line is filled with blanks to the width of the terminal, so that the next one follows by
    /// itself. In a terminal that is then made narrower each such line would take two rows; a line
    /// that ends where its text does takes one wherever it has room.
    fn write_str(&self, s: &str) -> io::Result<()> {
        if s.bytes().all(|byte| byte == b' ') {
            self.filled.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if self.filled.swap(false, Ordering::Relaxed) && s != "\r" {
            self.append(b"\n");
        }
        self.append(s.as_bytes());
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.filled.store(false, Ordering::Relaxed);
        self.append(b"\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness_metadata::{RustBinaryId, TestCaseName};

    #[test]
    fn lines_end_where_their_text_does_and_are_cleared_one_by_one() {
        let mut bar = Bar::new(8, (80, 24), Styles::new(false), true);
        let test = TestId {
            binary: RustBinaryId::new("krate"),
            name: TestCaseName::new("test"),
        };
        bar.started(test, 1, Duration::ZERO);
        let stats = RunStats::default();
        let drawn = String::from_utf8(bar.draw(b"", &stats, Duration::ZERO)).unwrap();
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines.len(), 2, "{drawn:?}");
        assert!(
            lines.iter().all(|line| line.trim_end() == *line),
            "{drawn:?}"
        );

        let again = String::from_utf8(bar.draw(b"above\n", &stats, Duration::ZERO)).unwrap();
        let cleared = "\x1b[1A\r\x1b[2K\x1b[1B\r\x1b[2K\x1b[1Aabove\n";
        assert_eq!(again.strip_prefix(cleared), Some(&*drawn), "{again:?}");
    }
}
