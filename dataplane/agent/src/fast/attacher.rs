//! Puts the program on links, in a thread of its own: with tcx the kernel waits for each until no CPU is in the link's old list of
//! programs any more (8 to 35 ms, measured), and packets wait for the ALG's thread.
//!
//! ```text
//!  ask(link) ─► requests ─► thread: bpf(2), a name ─► replies ─► answers()
//! ```

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::pins::Pins;
use super::program::{self, Attached};
use crate::netlink::Routes;

/// What became of one link.
pub(super) type Answer = (u32, Result<Attached, String>);

/// What it takes to put the program on a link.
pub(super) struct Means {
    /// The program.
    pub(super) program: OwnedFd,
    /// At tcx, where the kernel has that.
    pub(super) tcx: bool,
    /// Where links get names, if they do.
    pub(super) pins: Option<Pins>,
}

/// The thread, and what it was asked for.
pub(super) struct Attacher {
    /// `None` while it ends.
    requests: Option<Sender<u32>>,
    replies: Receiver<Answer>,
    waiting: BTreeSet<u32>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Attacher {
    /// Begins, for links of the calling thread's network namespace.
    ///
    /// # Errors
    /// When there can be no thread, or no netlink socket for it.
    pub(super) fn start(means: Means) -> Result<Self, String> {
        let routes = Routes::open().map_err(|error| format!("opening a route netlink socket: {error}"))?;
        let (requests, asked) = channel();
        let (answers, replies) = channel();
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        let work = move || {
            while let Ok(link) = asked.recv()
                && !end.load(Ordering::Relaxed)
            {
                let Means { program, tcx, pins } = &means;
                let answer = program::attach(program, link, *tcx, pins.as_ref(), &routes);
                if answers.send((link, answer)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("attach".to_owned()).spawn(work);
        let thread = thread.map_err(|error| format!("starting a thread: {error}"))?;
        Ok(Self { requests: Some(requests), replies, waiting: BTreeSet::new(), ends, thread: Some(thread) })
    }

    /// The program on this link, by and by.
    pub(super) fn ask(&mut self, link: u32) {
        if self.waiting.insert(link)
            && let Some(requests) = &self.requests
        {
            // It listens as long as we are here.
            let _ = requests.send(link);
        }
    }

    /// Whether everything is answered.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What has been done since the last call.
    pub(super) fn answers(&mut self) -> Vec<Answer> {
        let answers: Vec<Answer> = self.replies.try_iter().collect();
        self.waiting.retain(|link| answers.iter().all(|(answered, _)| answered != link));
        answers
    }
}

impl Drop for Attacher {
    /// Whoever comes next finds nobody at work: at most the link under way gets the program, and its name.
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
