//! Puts the program on links, takes it away and looks whether it is still there, in a thread of its own: with tcx the kernel waits for
//! each until no CPU is in the link's old list of programs any more (8 to 35 ms, measured), and packets wait for the ALG's thread.
//!
//! ```text
//!  put, check ────┬─► wishes, one after the other ─► thread: bpf(2), netlink, a name ─► replies ─► answers()
//!  take, prepare ─┘
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

/// What is known of a link now.
pub(super) enum Became {
    /// It has got the program.
    Attached(Attached),
    /// It has not got it, and why.
    Refused(String),
    /// It has not got it, since it is gone: whoever looks at links tells.
    Gone,
    /// It still has it, or is gone with it.
    Held,
    /// It has it no more.
    Lost,
}

/// A link, and what became of it.
pub(super) type Answer = (u32, Became);

/// What the thread is to do.
enum Wish {
    /// The program on this link.
    Put(u32),
    /// What is on this link away.
    Take(u32, Attached),
    /// Whether this is on this link.
    Check(u32, Attached),
    /// This link ready for a filter.
    Prepare(u32),
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
    /// Links that are looked at.
    checking: BTreeSet<u32>,
    /// Wishes without an answer that are not done yet.
    unanswered: Arc<AtomicUsize>,
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
        let unanswered = Arc::new(AtomicUsize::new(0));
        let (end, left) = (Arc::clone(&ends), Arc::clone(&unanswered));
        let work = move || {
            let Means { program, tcx, pins } = &means;
            while let Ok(wish) = wished.recv()
                && !end.load(Ordering::Relaxed)
            {
                let answer = match wish {
                    Wish::Put(link) => {
                        let put = program::attach(program, link, *tcx, pins.as_ref(), &routes);
                        let became = match put {
                            Ok(attached) => Became::Attached(attached),
                            Err(_) if program::is_gone(link, &routes) => Became::Gone,
                            Err(why) => Became::Refused(why),
                        };
                        Some((link, became))
                    }
                    Wish::Check(link, attached) => {
                        let holds =
                            program::holds(link, &attached, pins.as_ref(), &routes) || program::is_gone(link, &routes);
                        Some((link, if holds { Became::Held } else { Became::Lost }))
                    }
                    Wish::Take(link, attached) => {
                        if let Err(error) = program::rest(link, attached, pins.as_ref(), &routes) {
                            tracing::warn!(link, "the fast path cannot be taken from it: {error}");
                        }
                        None
                    }
                    Wish::Prepare(link) => {
                        if let Some(Err(error)) =
                            pins.as_ref().map(|pins| program::prepare(program, link, pins, &routes))
                        {
                            // Its first call asks again, and then people hear why.
                            tracing::debug!(link, "it cannot be made ready for the fast path: {error}");
                        }
                        None
                    }
                };
                match answer {
                    Some(answer) => {
                        if answers.send(answer).is_err() {
                            return;
                        }
                    }
                    None => drop(left.fetch_sub(1, Ordering::Release)),
                }
            }
        };
        let thread = std::thread::Builder::new().name("attach".to_owned()).spawn(work);
        let thread = thread.map_err(|error| format!("starting a thread: {error}"))?;
        let (waiting, checking) = (BTreeSet::new(), BTreeSet::new());
        Ok(Self { wishes: Some(wishes), replies, waiting, checking, unanswered, ends, thread: Some(thread) })
    }

    /// The program on this link, by and by.
    pub(super) fn put(&mut self, link: u32) {
        if self.waiting.insert(link) {
            self.wish(Wish::Put(link));
        }
    }

    /// What is on this link away, by and by. Whoever wants the program there again asks for it behind that.
    pub(super) fn take(&self, link: u32, attached: Attached) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        self.wish(Wish::Take(link, attached));
    }

    /// Whether this is still on this link.
    pub(super) fn check(&mut self, link: u32, attached: &Attached) {
        if let Ok(same) = attached.same()
            && self.checking.insert(link)
        {
            self.wish(Wish::Check(link, same));
        }
    }

    /// This link ready for a filter, by and by.
    pub(super) fn prepare(&self, link: u32) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        self.wish(Wish::Prepare(link));
    }

    fn wish(&self, wish: Wish) {
        if let Some(wishes) = &self.wishes {
            // It listens as long as we are here.
            let _ = wishes.send(wish);
        }
    }

    /// Whether no answer is to come.
    pub(super) fn is_answered(&self) -> bool {
        self.waiting.is_empty() && self.checking.is_empty()
    }

    /// Whether there is nothing left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.is_answered() && self.unanswered.load(Ordering::Acquire) == 0
    }

    /// What has been done since the last call.
    pub(super) fn answers(&mut self) -> Vec<Answer> {
        let answers: Vec<Answer> = self.replies.try_iter().collect();
        for (link, became) in &answers {
            match became {
                Became::Attached(_) | Became::Refused(_) | Became::Gone => self.waiting.remove(link),
                Became::Held | Became::Lost => self.checking.remove(link),
            };
        }
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
