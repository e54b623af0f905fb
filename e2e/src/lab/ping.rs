//! ping(8): how many of how many came back.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::node::Node;
use super::ping_gaps;
use super::process::Process;

/// A running ping.
#[derive(Debug)]
pub struct Ping {
    process: Process,
    limit: Duration,
    stopped: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinged {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
}

impl Pinged {
    /// Lost, in percent, rounded up: one of a thousand is not nothing.
    pub fn loss_percent(&self) -> u32 {
        if self.sent == 0 { 100 } else { ((self.sent - self.received.min(self.sent)) * 100).div_ceil(self.sent) }
    }
}

impl Ping {
    /// Pings `target` for `time`, five times a second.
    ///
    /// # Errors
    /// If ping cannot be started.
    pub fn start(node: &Node, target: Ipv4Addr, time: Duration) -> anyhow::Result<Self> {
        let mut command = node.command("ping");
        let count = (time.as_millis() / 200).max(1).to_string();
        command.args(["-n", "-i", "0.2", "-W", "2", "-c", &count, &target.to_string()]);
        let process = node.spawn("ping", command)?;
        Ok(Self { process, limit: time + Duration::from_secs(30), stopped: false })
    }

    /// Ends it early; `finish` then gives what came back so far.
    pub fn stop_now(&mut self) {
        self.stopped = true;
        self.process.signal(nix::sys::signal::Signal::SIGINT);
    }

    /// Waits for its end. 100 % loss is a result, not an error.
    ///
    /// # Errors
    /// If ping ends otherwise, such as without a route.
    pub fn finish(mut self) -> anyhow::Result<Pinged> {
        self.process.wait(self.limit)?;
        let output = self.process.output();
        // The reply to the last request may have been under way when it was stopped.
        let pinged =
            if self.stopped { ping_gaps::parse_within(&output, 1).map(|gaps| gaps.pinged) } else { parse(&output) };
        pinged.with_context(|| self.process.tail(10))
    }
}

/// Reads the summary line of iputils ping: `20 packets transmitted, 20 received, 0% packet loss, time 3800ms`.
pub fn parse(output: &str) -> anyhow::Result<Pinged> {
    let Some(line) = output.lines().find(|line| line.contains(" packets transmitted, ")) else {
        bail!("ping gave no summary");
    };
    let number = |part: &str| {
        line.split(", ").find(|field| field.contains(part)).and_then(|field| field.split(' ').next()?.parse().ok())
    };
    match (number("packets transmitted"), number(" received")) {
        (Some(sent), Some(received)) => Ok(Pinged { sent, received }),
        (None, _) | (_, None) => bail!("ping's summary is not understood: {line}"),
    }
}

/// Pings from several nodes at once.
///
/// # Errors
/// If one of them cannot be started or read.
pub fn all<'a>(targets: impl IntoIterator<Item = (&'a Node, Ipv4Addr)>, time: Duration) -> anyhow::Result<Vec<Pinged>> {
    let running: Vec<Ping> =
        targets.into_iter().map(|(node, target)| Ping::start(node, target, time)).collect::<Result<_, _>>()?;
    running.into_iter().map(Ping::finish).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read_with_and_without_errors() {
        let plain =
            "\n--- 10.99.1.1 ping statistics ---\n20 packets transmitted, 19 received, 5% packet loss, time 3801ms\n";
        let errors = "5 packets transmitted, 0 received, +5 errors, 100% packet loss, time 812ms\n";
        let duplicates = "5 packets transmitted, 5 received, +1 duplicates, 0% packet loss, time 812ms\n";
        let read: Vec<Pinged> = [plain, errors, duplicates].iter().map(|text| parse(text).unwrap()).collect();
        let expected = [(20, 19), (5, 0), (5, 5)].map(|(sent, received)| Pinged { sent, received });
        assert_eq!(read, expected);
        assert_eq!(read.iter().map(Pinged::loss_percent).collect::<Vec<_>>(), [5, 100, 0]);
        assert!(parse("ping: connect: Network is unreachable").is_err());
    }

    #[test]
    fn one_lost_of_a_thousand_is_not_nothing() {
        assert_eq!(Pinged { sent: 1000, received: 999 }.loss_percent(), 1);
    }
}
