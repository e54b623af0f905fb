//! A ping of unknown length, reply by reply: how many requests in a row stayed without an answer, and how often.

use anyhow::{Context as _, ensure};

use super::ping::{self, Pinged};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gaps {
    /// How many were sent and answered.
    pub pinged: Pinged,
    /// Each run of requests without an answer: its first sequence number, from 1, and its length.
    pub gaps: Vec<(u32, u32)>,
}

impl Gaps {
    /// Requests without an answer.
    pub fn lost(&self) -> u32 {
        self.gaps.iter().map(|(_, length)| length).sum()
    }
}

/// Requests at the end that may still be under way when ping is told to end: of a second, where a busy machine takes long for an answer.
const UNDER_WAY: u32 = 5;

/// Reads what ping (of busybox, which counts from 0, or of iputils, from 1) says without `-q`. The last requests may still be under way when
/// it is told to end: up to five without an answer there do not count, and whoever reads this asks again whether the way still is one.
///
/// # Errors
/// If there is no summary, or it does not agree with the replies.
pub fn parse(output: &str) -> anyhow::Result<Gaps> {
    parse_within(output, UNDER_WAY)
}

/// The same, where no more than so many requests at the end may be under way.
pub(super) fn parse_within(output: &str, under_way: u32) -> anyhow::Result<Gaps> {
    let summary = ping::parse(output)?;
    let replies = output.lines().filter(|line| line.contains(" bytes from ") && !line.ends_with("(DUP!)"));
    let mut answered = replies
        .map(|line| {
            let number = line.split("seq=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            let number: u32 = number.parse().with_context(|| format!("no sequence number: {line}"))?;
            Ok(if line.contains(" icmp_seq=") { number } else { number + 1 })
        })
        .collect::<anyhow::Result<Vec<u32>>>()?;
    answered.sort_unstable();
    ensure!(answered.len() == summary.received as usize, "{} replies, but {summary:?}", answered.len());
    let last = answered.last().copied().unwrap_or(0);
    let sent = if last + under_way >= summary.sent && last > 0 { last } else { summary.sent };
    let mut gaps = Vec::new();
    let mut expected = 1;
    for number in answered.into_iter().chain([sent + 1]) {
        if number > expected {
            gaps.push((expected, number - expected));
        }
        expected = number + 1;
    }
    Ok(Gaps { pinged: Pinged { sent, ..summary }, gaps })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answered: &[u32], sent: u32) -> String {
        let reply = |number: &u32| format!("64 bytes from 10.99.1.1: icmp_seq={number} ttl=64 time=0.412 ms\n");
        let received = answered.len();
        let replies: String = answered.iter().map(reply).collect();
        format!("{replies}\n{sent} packets transmitted, {received} received, 7% packet loss, time 3801ms\n")
    }

    #[test]
    fn runs_of_lost_requests_are_counted_each_by_itself() {
        let read = |answered: &[u32], sent| parse(&said(answered, sent)).unwrap();
        let of = |sent, received, gaps: &[(u32, u32)]| Gaps { pinged: Pinged { sent, received }, gaps: gaps.to_vec() };
        assert_eq!(read(&[1, 2, 3], 3), of(3, 3, &[]));
        assert_eq!(read(&[1, 2, 5, 4, 8], 8), of(8, 5, &[(3, 1), (6, 2)]));
        assert_eq!(read(&[2, 3], 3), of(3, 2, &[(1, 1)]));
        assert_eq!(read(&[], 3), of(3, 0, &[(1, 3)]));
        assert_eq!(read(&[2, 3, 6], 6).lost(), 3);
    }

    #[test]
    fn busybox_counts_from_zero() {
        let said = "64 bytes from 10.99.1.1: seq=0 ttl=64 time=0.167 ms\n64 bytes from 10.99.1.1: seq=2 ttl=64 time=0.059 ms\n\n\
                    --- 10.99.1.1 ping statistics ---\n3 packets transmitted, 2 packets received, 33% packet loss\n";
        assert_eq!(parse(said).unwrap(), Gaps { pinged: Pinged { sent: 3, received: 2 }, gaps: vec![(2, 1)] });
    }

    #[test]
    fn only_the_very_last_requests_may_be_under_way() {
        assert_eq!(parse(&said(&[1, 2], 3)).unwrap().gaps, []);
        assert_eq!(parse(&said(&[1, 2], 7)).unwrap().gaps, []);
        assert_eq!(parse(&said(&[1, 2], 8)).unwrap().gaps, [(3, 6)]);
    }

    #[test]
    fn of_one_that_was_stopped_only_the_last_request_may_be_without_a_reply() {
        let read = |answered: &[u32]| parse_within(&said(answered, 3), 1).unwrap().pinged;
        let expected = [(3, 3), (2, 2), (3, 2), (2, 1)].map(|(sent, received)| Pinged { sent, received });
        assert_eq!([&[1, 2, 3][..], &[1, 2], &[1, 3], &[2]].map(read), expected);
    }

    #[test]
    fn what_does_not_add_up_is_no_result() {
        assert!(parse(&said(&[1, 2], 2).replace("icmp_seq=2", "icmp_seq=")).is_err());
        assert!(parse(&said(&[1, 2], 2).replace("2 received", "1 received")).is_err());
        assert!(parse("64 bytes from 10.99.1.1: icmp_seq=1 ttl=64 time=0.4 ms\n").is_err());
    }
}
