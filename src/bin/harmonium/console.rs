//! Standard output, standard error and progress bars.
//!
//! A reader may close the pipe early (`harmonium info model | head -1`). That must not stop a training run.

use crate::ranks;
use harmonium::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::{
    fmt,
    io::{ErrorKind, IsTerminal, Write, stderr, stdout},
};

/// Prints one line on standard error. Control characters, which names of files can contain, are escaped. Here and below, only the first
/// of several ranks prints.
pub fn complain(text: &str) {
    if ranks::is_first() {
        complain_anyway(text);
    }
}

/// [`complain`] on any rank.
pub fn complain_anyway(text: &str) {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let _ = writeln!(stderr(), "{}", text.chars().map(escaped).collect::<String>());
}

/// Prints a line on standard output.
pub fn say(text: &str) {
    if ranks::is_first() {
        let _ = writeln!(stdout(), "{text}");
    }
}

/// Prints the result of a command on standard output.
///
/// # Errors
/// If the result cannot be written, as on a full disk. A closed pipe is not an error.
pub fn answer(lines: &[String]) -> Result<()> {
    if !ranks::is_first() {
        return Ok(());
    }
    let mut out = stdout().lock();
    match lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()) {
        Err(problem) if problem.kind() != ErrorKind::BrokenPipe => {
            Err(Error::File { path: "standard output".into(), problem: problem.to_string() })
        }
        _ => Ok(()),
    }
}

/// A number with `decimals` decimals, or `unknown` for NaN.
pub fn known(x: f64, decimals: usize) -> String {
    if x.is_nan() { "unknown".into() } else { format!("{x:.decimals$}") }
}

/// A number of at least 0 with three significant digits. A small number does not become 0.
pub fn significant(x: f64) -> String {
    let decimals = (2.0 - x.log10().floor()).clamp(0.0, 12.0) as usize;
    format!("{x:.decimals$}")
}

/// A time in seconds, or in minutes from one minute on.
pub fn duration(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{} s", significant(seconds)),
        _ => format!("{} minutes", significant(seconds / 60.0)),
    }
}

/// The progress of one job: a bar on a terminal, plain lines elsewhere, nothing if `quiet`.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// Progress of `total` steps; `unit` is their name. The bar takes the width that the title and the numbers leave.
    pub fn new(title: &str, total: u64, unit: &str, quiet: bool) -> Self {
        let template = format!("{{msg}} [{{wide_bar}}] {{pos}}/{{len}} {unit}, {{rate}}/s, {{eta}} left");
        let progress = Self::with_template(total, &template, quiet);
        progress.title(title.into());
        progress
    }

    /// Progress of training. The title has several figures, so it comes last and a narrow terminal cuts it off. Time left, epoch and
    /// likelihoods fit into 80 columns.
    pub fn training(updates: u64, quiet: bool) -> Self {
        Self::with_template(updates, "[{bar:8}] {percent} %, {eta} left, {wide_msg}", quiet)
    }

    fn with_template(total: u64, template: &str, quiet: bool) -> Self {
        let quiet = quiet || !ranks::is_first();
        let target =
            if quiet || !stderr().is_terminal() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
                // Failing to show a rate is harmless.
                let _ = write!(text, "{}", significant(state.per_sec()));
            };
            bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
        }
        Self { bar, quiet }
    }

    /// Sets the title.
    pub fn title(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Adds completed steps.
    pub fn advance(&self, steps: u64) {
        self.bar.inc(steps);
    }

    /// Prints a permanent line above the bar.
    pub fn line(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| say(text));
        }
    }

    /// Prints a permanent warning on standard error.
    pub fn warn(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| complain(&format!("warning: {text}")));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn no_time_is_rounded_to_nothing() {
        let seconds = [0.0, 0.000414353, 0.0469, 7.0, 36.28, 59.99, 60.0, 7347.96, 1e6];
        let texts = seconds.map(duration).join(", ");
        let expected = "0.000000000000 s, 0.000414 s, 0.0469 s, 7.00 s, 36.3 s, 60.0 s, 1.00 minutes, 122 minutes, \
                        16667 minutes";
        assert_eq!(texts, expected);
    }
}
