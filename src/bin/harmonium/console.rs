//! What is said on standard output and standard error.
//!
//! Nobody may be listening any more (`harmonium info model | head -1`): that is no reason to stop a training run.

use crate::ranks;
use harmonium::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::{
    fmt,
    io::{ErrorKind, IsTerminal, Write, stderr, stdout},
};

/// Says a line on standard error: one line, also where a file's name or contents would make it more. Of several ranks the first
/// one alone speaks, here and below.
pub fn complain(text: &str) {
    if ranks::is_first() {
        complain_anyway(text);
    }
}

/// The same on any rank.
pub fn complain_anyway(text: &str) {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let _ = writeln!(stderr(), "{}", text.chars().map(escaped).collect::<String>());
}

/// Says a line on standard output.
pub fn say(text: &str) {
    if ranks::is_first() {
        let _ = writeln!(stdout(), "{text}");
    }
}

/// Says on standard output what a command was called for: whoever stops listening has heard enough, but on a full disk it
/// would be lost.
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

/// A number with so many decimals, or that it is unknown where it is none.
pub fn known(x: f64, decimals: usize) -> String {
    if x.is_nan() { "unknown".into() } else { format!("{x:.decimals$}") }
}

/// A number of at least 0 with three significant digits, so that a small one is not 0.
pub fn significant(x: f64) -> String {
    let decimals = (2.0 - x.log10().floor()).clamp(0.0, 12.0) as usize;
    format!("{x:.decimals$}")
}

/// A time in seconds, or in minutes where there are some.
pub fn duration(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{} s", significant(seconds)),
        _ => format!("{} minutes", significant(seconds / 60.0)),
    }
}

/// The progress of one job: a bar on a terminal, plain lines elsewhere, nothing where it is to be quiet.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// Progress through `total` steps, which are called `unit`.
    pub fn new(total: u64, unit: &str, quiet: bool) -> Self {
        let quiet = quiet || !ranks::is_first();
        let target =
            if quiet || !stderr().is_terminal() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = format!("{{msg}} [{{bar:30}}] {{pos}}/{{len}} {unit}, {{rate}}/s, {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
                // Nothing is lost with a rate that cannot be shown.
                let _ = write!(text, "{}", significant(state.per_sec()));
            };
            bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
        }
        Self { bar, quiet }
    }

    /// What stands before the bar.
    pub fn title(&self, text: String) {
        self.bar.set_message(text);
    }

    /// That many steps are done.
    pub fn advance(&self, steps: u64) {
        self.bar.inc(steps);
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| say(text));
        }
    }

    /// A line on standard error that stays.
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
