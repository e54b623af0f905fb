//! Where messages end in octets that were written and not acknowledged, so that each is a segment of its own again. Pure.

use callgate_pptp::wire::control::{MAX_MESSAGE_LEN, frame};

/// The octet behind the cookie, by which a message is known.
const COOKIE_END: usize = 8;

/// Cuts `queue`, whose last `unsent` octets were never sent, into messages, and where sending had stopped. It ends behind a message
/// or in one that the kernel has only a part of, and may begin in one whose first part was acknowledged.
pub(super) fn pieces(queue: &[u8], unsent: usize) -> Vec<&[u8]> {
    let border = queue.len().saturating_sub(unsent);
    // Nothing shorter shows that it is one.
    let most = queue.len().saturating_sub(COOKIE_END - 1).min(MAX_MESSAGE_LEN);
    let mut ends = (0..most).find_map(|begin| message_ends(queue, begin)).unwrap_or_default();
    ends.extend([border, queue.len()]);
    ends.sort_unstable();
    ends.dedup();
    let begins = std::iter::once(0).chain(ends.iter().copied());
    let pieces = begins.zip(&ends).filter_map(|(begin, &end)| queue.get(begin..end));
    pieces.filter(|piece| !piece.is_empty()).collect()
}

/// The ends of messages, if one begins at `begin` and nothing but messages follows.
fn message_ends(queue: &[u8], begin: usize) -> Option<Vec<usize>> {
    let mut ends = vec![begin];
    let mut at = begin;
    while let Some(length) = frame(queue.get(at..)?, true).ok()? {
        at += length;
        if at >= queue.len() {
            break;
        }
        ends.push(at);
    }
    Some(ends)
}

#[cfg(test)]
mod tests {
    use callgate_pptp::wire::control::{EchoRequest, StopReason, StopRequest};

    use super::*;

    fn messages() -> Vec<Vec<u8>> {
        let echo = EchoRequest { reserved0: 0, identifier: 0x0010_0001 }.to_bytes();
        let stop = StopRequest { reserved0: 0, reason: StopReason::None, reserved1: 0, reserved2: 0 }.to_bytes();
        vec![echo.clone(), stop, echo]
    }

    #[test]
    fn whole_messages_are_cut_between_them_wherever_the_first_was_cut_before() {
        let all = messages();
        let queue = all.concat();
        for begin in 0..16 {
            let rest = &queue[begin..];
            let expected = [&queue[begin..16], &queue[16..32], &queue[32..]];
            assert_eq!(pieces(rest, 0), expected, "the first {begin} octets were acknowledged");
        }
    }

    #[test]
    fn a_message_of_which_the_kernel_has_a_part_is_the_last_piece() {
        let queue = messages().concat();
        for end in 33..48 {
            assert_eq!(pieces(&queue[..end], 0), [&queue[..16], &queue[16..32], &queue[32..end]]);
        }
    }

    #[test]
    fn what_was_sent_and_what_was_not_are_never_one_piece() {
        let queue = messages().concat();
        assert_eq!(pieces(&queue, 20), [&queue[..16], &queue[16..28], &queue[28..32], &queue[32..]]);
        assert_eq!(pieces(&queue, 48).concat(), queue);
        assert_eq!(pieces(&[], 0), Vec::<&[u8]>::new());
    }

    #[test]
    fn octets_that_are_no_messages_are_kept_whole() {
        assert_eq!(pieces(&[0xee; 40], 0), [&[0xee; 40][..]]);
    }
}
