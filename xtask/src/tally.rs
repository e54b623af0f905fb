//! Adds up what ran: checks, libtest results and skips.

use std::fmt;
use std::path::Path;

/// Counts over a whole run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// Names of what failed, in the order it ran.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// One check that either holds or does not.
    pub(crate) fn check(&mut self, name: &str, holds: bool) {
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
            self.failures.push(name.to_owned());
        }
    }

    /// Adds every `test result:` line of a libtest run, and remembers the names of failed tests. A run without any such
    /// line, or one that failed without a failed test (it did not compile, it was ended), counts as one failure.
    pub(crate) fn libtest(&mut self, name: &str, lines: &[String], success: bool) {
        let mut results = 0;
        let failed_before = self.failed;
        for line in lines {
            if let Some(rest) = line.strip_prefix("test result: ") {
                results += 1;
                self.passed += number_before(rest, " passed");
                self.failed += number_before(rest, " failed");
                self.skipped += number_before(rest, " ignored");
            } else if let Some(test) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
                self.failures.push(format!("{name}: {test}"));
            }
        }
        if results == 0 || (!success && self.failed == failed_before) {
            self.failed += 1;
            self.failures.push(format!("{name}: did not run to its end"));
        }
    }

    /// Tests that could not run here write a line each into `file`, and return as if they had passed: they are moved from
    /// passed to skipped. In CI a skip is a failure.
    pub(crate) fn skips(&mut self, file: &Path, ci: bool) {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for line in text.lines() {
            self.passed = self.passed.saturating_sub(1);
            if ci {
                self.failed += 1;
                self.failures.push(format!("skipped, which CI does not allow: {line}"));
            } else {
                self.skipped += 1;
                println!("skipped: {line}");
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let Some(end) = text.find(word) else { return 0 };
    let digits = text[..end].rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn results_of_several_binaries_add_up_and_failures_are_named() {
        let mut tally = Tally::default();
        let output = "test a::b ... ok\ntest c ... FAILED\n\
                      test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                      test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.1s";
        tally.libtest("unit", &lines(output), false);
        let expected = Tally { passed: 15, failed: 1, skipped: 2, failures: vec!["unit: c".to_owned()] };
        assert_eq!(tally, expected);
        assert_eq!(tally.to_string(), "15 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn a_run_that_did_not_compile_is_a_failure() {
        let mut tally = Tally::default();
        tally.libtest("unit", &lines("error: could not compile"), false);
        assert_eq!(tally.failed, 1);
    }

    #[test]
    fn a_run_ended_from_outside_after_good_results_is_a_failure() {
        let mut tally = Tally::default();
        tally.libtest("e2e", &lines("test result: ok. 3 passed; 0 failed; 0 ignored"), false);
        assert_eq!((tally.passed, tally.failed), (3, 1));
    }

    #[test]
    fn skips_count_as_failures_in_ci_only() {
        let file = std::env::temp_dir().join(format!("xtask-tally-{}", std::process::id()));
        std::fs::write(&file, "needs root: one\nneeds root: two\n").expect("write");
        let mut here = Tally { passed: 5, ..Tally::default() };
        let mut ci = here.clone();
        here.skips(&file, false);
        ci.skips(&file, true);
        std::fs::remove_file(&file).expect("remove");
        assert_eq!((here.passed, here.failed, here.skipped), (3, 0, 2));
        assert_eq!((ci.passed, ci.failed, ci.skipped), (3, 2, 0));
    }
}
