//! Puts the program on links and takes it away, in a thread of its own: with tcx the kernel waits for each until no CPU is in the
//! link's old list of programs any more (8 to 35 ms, measured), and packets wait for the ALG's thread.
//!
//! ```text
//!  put(link) ─┬─► wishes, one after the other ─► thread: bpf(2), a name ─► replies ─► answers()
//!  take(link) ┘
//! ```

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::pins::Pins;
use super::program::{self, Attached};
use crate::netlink::Routes;

/// What became of one link.
pub(super) type Answer = (u32, Result<Attached, String>);

/// What the thread is to do.
enum Wish {
    /// The program on this link.
    Put(u32),
    /// What is on this link away, and its name.
    Take(u32, Attached),
}

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
    wishes: Option<Sender<Wish>>,
    replies: Receiver<Answer>,
    /// Links that are to get the program.
    waiting: BTreeSet<u32>,
    /// How many links are to lose it.
    leaving: Arc<AtomicUsize>,
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
        let (wishes, wished) = channel();
        let (answers, replies) = channel();
        let ends = Arc::new(AtomicBool::new(false));
        let leaving = Arc::new(AtomicUsize::new(0));
        let (end, left) = (Arc::clone(&ends), Arc::clone(&leaving));
        let work = move || {
            let Means { program, tcx, pins } = &means;
            while let Ok(wish) = wished.recv()
                && !end.load(Ordering::Relaxed)
            {
                match wish {
                    Wish::Put(link) => {
                        let answer = program::attach(program, link, *tcx, pins.as_ref(), &routes);
                        if answers.send((link, answer)).is_err() {
                            return;
                        }
                    }
                    Wish::Take(link, attached) => {
                        if let Err(error) = program::detach(link, attached, pins.as_ref(), &routes) {
                            tracing::warn!(link, "the fast path cannot be taken from it: {error}");
                        }
                        left.fetch_sub(1, Ordering::Release);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("attach".to_owned()).spawn(work);
        let thread = thread.map_err(|error| format!("starting a thread: {error}"))?;
        Ok(Self { wishes: Some(wishes), replies, waiting: BTreeSet::new(), leaving, ends, thread: Some(thread) })
    }

    /// The program on this link, by and by.
    pub(super) fn put(&mut self, link: u32) {
        if self.waiting.insert(link) {
            self.wish(Wish::Put(link));
        }
    }

    /// What is on this link away, by and by. Whoever wants the program there again asks for it behind that.
    pub(super) fn take(&self, link: u32, attached: Attached) {
        self.leaving.fetch_add(1, Ordering::Relaxed);
        self.wish(Wish::Take(link, attached));
    }

    fn wish(&self, wish: Wish) {
        if let Some(wishes) = &self.wishes {
            // It listens as long as we are here.
            let _ = wishes.send(wish);
        }
    }

    /// Whether no link is about to get the program.
    pub(super) fn is_answered(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether there is nothing left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.is_answered() && self.leaving.load(Ordering::Acquire) == 0
    }

    /// What has been done since the last call.
    pub(super) fn answers(&mut self) -> Vec<Answer> {
        let answers: Vec<Answer> = self.replies.try_iter().collect();
        self.waiting.retain(|link| answers.iter().all(|(answered, _)| answered != link));
        answers
    }
}

impl Drop for Attacher {
    /// Whoever comes next finds nobody at work: at most the link under way gets the program, and its name, or loses them.
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
