//! What a person must know at once: events made of the difference between two statuses of an object.

use callgate_crds::ObjectStatus;
use callgate_crds::conditions::{Entry, Reason, TABLE};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// It is a warning; otherwise it is good news.
    pub warning: bool,
    /// The reason of the condition.
    pub reason: String,
    /// Its message.
    pub text: String,
}

/// Events' notes have at most 1024 bytes (events.k8s.io/v1).
const LONGEST_NOTE: usize = 1000;

/// What has come to be true between `before` and `after`. Waiting is no event, and neither is what was so before.
pub fn notes(before: &ObjectStatus, after: &ObjectStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    for new in &after.conditions {
        let old = before.conditions.iter().find(|old| old.type_ == new.type_);
        let same = old.is_some_and(|old| (old.status.as_str(), old.reason.as_str()) == (&new.status, &new.reason));
        if !same && let Some(warning) = weight(new, old) {
            notes.push(Note { warning, reason: new.reason.clone(), text: cut(&new.message) });
        }
    }
    notes
}

/// About an object that is gone: there is no status any more that could say it.
pub fn removed() -> Note {
    Note { warning: false, reason: "Removed".to_owned(), text: "In force on no node any more.".to_owned() }
}

/// Whether it is a warning, or good news, or nothing to tell.
fn weight(new: &Condition, old: Option<&Condition>) -> Option<bool> {
    let Entry { reason, status, .. } = TABLE.iter().find(|entry| entry.reason.name() == new.reason)?;
    // Said by another condition of the same object, or only a matter of time.
    let silent = matches!(
        reason,
        Reason::Pending
            | Reason::NotAccepted
            | Reason::UnresolvedRefs
            | Reason::LastGoodRuns
            | Reason::NothingToProgram
    );
    let good_news = *reason == Reason::Programmed || old.is_some_and(|old| old.status != "True");
    let notable = matches!(reason, Reason::Shadowed | Reason::SourcesExcluded);
    match (silent, status) {
        (true, _) => None,
        (false, false) => Some(true),
        (false, true) if notable => Some(true),
        (false, true) if good_news => Some(false),
        (false, true) => None,
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(LONGEST_NOTE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn status(reasons: &[(Reason, &str)]) -> ObjectStatus {
        let conditions = reasons
            .iter()
            .map(|(reason, message)| reason.condition_with(*message, Some(1), Time(jiff::Timestamp::UNIX_EPOCH)));
        ObjectStatus { conditions: conditions.collect(), ..ObjectStatus::default() }
    }

    fn told(before: &[(Reason, &str)], after: &[(Reason, &str)]) -> Vec<String> {
        let notes = notes(&status(before), &status(after));
        notes
            .iter()
            .map(|note| format!("{}{}: {}", if note.warning { "!" } else { "" }, note.reason, note.text))
            .collect()
    }

    #[test]
    fn conflicts_and_failures_are_warnings_once() {
        let conflict = [(Reason::Conflicted, "x won"), (Reason::NotAccepted, "see Accepted")];
        assert_eq!(told(&[], &conflict), ["!Conflicted: x won"]);
        assert_eq!(told(&conflict, &conflict), [""; 0]);
        assert_eq!(told(&[(Reason::Programmed, "")], &[(Reason::ApplyFailed, "no")]), ["!ApplyFailed: no"]);
    }

    #[test]
    fn waiting_is_no_event_and_its_end_is() {
        let accepted = (Reason::Accepted, "Valid.");
        assert_eq!(told(&[], &[accepted, (Reason::Pending, "wait")]), [""; 0]);
        let after = told(&[accepted, (Reason::Pending, "wait")], &[accepted, (Reason::Programmed, "done")]);
        assert_eq!(after, ["Programmed: done"]);
    }

    #[test]
    fn what_was_mended_is_told() {
        let after = told(&[(Reason::Conflicted, "x won")], &[(Reason::Accepted, "Valid.")]);
        assert_eq!(after, ["Accepted: Valid."]);
    }
}
