//! From one process to the next: everything is lifted and handed over at a planned end, and set down at the next start.
//!
//! ```text
//!  hush ─► what has come is heard, what is to be said is written ─► lift, write the file ─► close, in silence      hand_over
//!  file ─► set_down, hushed ─► the core thaws ─► release                                                          resume
//!             └─ too old, or not to be understood: each connection is reset, so that both ends know
//! ```

use std::collections::BTreeMap;

use callgate_pptp::Now;
use callgate_pptp::shared::{Frozen, Gone, Leg};
use socket2::Socket;

use super::ends::End;
use super::handover::{Found, Handover, Kept, LIMIT};
use super::legs::Heard;
use super::mode::{Mode, With};
use super::repair::{self, Hushed};

/// Connections that have a socket again, by what they are for.
type SetDown = BTreeMap<Leg, (Kept, Hushed)>;

impl Mode {
    /// Accepts nobody any more, and has the kernel drop what comes for those that are there.
    pub(crate) fn hush(&mut self, with: &mut With<'_>) {
        let mut heard = Vec::new();
        self.legs.accept_no_more(&mut heard);
        self.take(heard, with);
        self.legs.hush();
    }

    /// Leaves all connections and calls to the next process; after `hush`, and when all that had come is heard and all that is to be
    /// said is written. Where that cannot be, they end as with a process that is killed.
    pub(crate) fn hand_over(&mut self, with: &mut With<'_>) {
        let mut heard = Vec::new();
        let (kept, sockets): (Vec<Kept>, Vec<Socket>) = self.legs.lift(&mut heard).into_iter().unzip();
        self.take(heard, with);
        if kept.is_empty() && self.core.session_count() == 0 {
            return;
        }
        let (clients, calls) = (self.core.session_count(), self.core.call_count());
        match self.place.put(with.now, &kept, self.ends.leaving(), &self.core.freeze(with.now)) {
            Ok(()) => {
                tracing::info!(clients, calls, connections = kept.len(), "handed over to the next agent on this host");
            }
            Err(error) => {
                let path = self.place.path().display();
                tracing::error!(clients, calls, "{path}: nothing can be handed over, connections end: {error}");
                sockets.iter().for_each(repair::unlift);
            }
        }
    }

    /// Goes on with what the process before has handed over, if it has.
    pub(crate) fn resume(&mut self, with: &mut With<'_>) {
        let path = self.place.path().display().to_string();
        let Found { handover, state } = match self.place.take() {
            Ok(None) => return,
            Ok(Some(found)) => found,
            Err(why) => {
                tracing::error!(
                    "{path}: connections and calls of Shared and Auto are lost: {why}; clients are reset when they speak, servers \
                     notice by themselves"
                );
                return;
            }
        };
        let Handover { at, lines, leaving, .. } = handover;
        leaving.into_iter().for_each(|(end, until)| self.ends.leaves(end, until));
        let (set_down, lost) = self.set_down(lines, with.now.since(at), with);
        let legs = in_time(at, with.now, state)
            .and_then(|state| self.core.thaw(state, with.engine, with.now).map_err(|error| error.to_string()));
        match legs {
            Ok(legs) => self.go_on(&legs, set_down, (at, lost), with),
            Err(why) => {
                let connections = set_down.len();
                tracing::error!(connections, "{path}: calls of Shared and Auto end, both ends are reset: {why}");
                for (kept, hushed) in set_down.into_values() {
                    self.ends_here(kept.end, with);
                    hushed.reset();
                }
            }
        }
    }

    /// Gives them sockets; how many could not be given one.
    fn set_down(&mut self, lines: Vec<Kept>, age: u64, with: &mut With<'_>) -> (SetDown, usize) {
        let (mut set_down, all) = (SetDown::new(), lines.len());
        for kept in lines {
            let hushed = if kept.is_sound() {
                repair::set_down(&kept.tcp, self.sent, age)
            } else {
                Err(std::io::Error::other("its ends are not those it was for"))
            };
            match hushed {
                Ok(hushed) => drop(set_down.insert(kept.leg, (kept, hushed))),
                Err(error) => {
                    tracing::warn!(connection = ?kept.end, "it cannot be gone on with: {error}");
                    self.ends_here(kept.end, with);
                }
            }
        }
        let lost = all - set_down.len();
        (set_down, lost)
    }

    /// The core has its state; its legs get their connections, and those without one are gone.
    fn go_on(&mut self, legs: &[Leg], mut set_down: SetDown, (at, mut lost): (Now, usize), with: &mut With<'_>) {
        let (mut heard, mut gone) = (Vec::new(), Vec::new());
        for &leg in legs {
            let there = set_down.remove(&leg).map(|(kept, hushed)| self.goes_on(kept, hushed, &mut heard, with));
            match there {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(%leg, "it cannot be gone on with: {error}");
                    lost += 1;
                    gone.push(leg);
                }
                None => gone.push(leg),
            }
        }
        for (kept, hushed) in set_down.into_values() {
            self.ends_here(kept.end, with);
            hushed.reset();
        }
        for leg in gone {
            match leg {
                Leg::Client(id) => self.core.client_closed(id, Gone::Reset, with.engine, with.now),
                Leg::Upstream(id) => self.core.upstream_closed(id, Gone::Reset, with.engine, with.now),
            }
        }
        self.take(heard, with);
        let (clients, tunnels, calls) = (self.core.session_count(), self.core.tunnels().len(), self.core.call_count());
        let ms = with.now.since(at);
        tracing::info!(clients, tunnels, calls, lost, ms, "Shared and Auto go on where the agent before has left them");
    }

    fn goes_on(
        &mut self,
        kept: Kept,
        hushed: Hushed,
        heard: &mut Vec<Heard>,
        with: &mut With<'_>,
    ) -> std::io::Result<()> {
        let end = kept.end;
        if let (End::Server(outer), Leg::Upstream(upstream)) = (end, kept.leg) {
            let client = self.core.owner(upstream);
            if !self.goes_on_from(outer, client, with) {
                hushed.reset();
                let port = outer.external.port();
                return Err(std::io::Error::other(format!("port {port} is in use by something else")));
            }
        }
        // Before it is heard of: what is answered must find its way here.
        self.ends.live(end);
        let result = hushed.release().and_then(|released| self.legs.put_back(kept, released, heard));
        match (&result, end) {
            (Ok(()), _) => {}
            (Err(_), End::Server(outer)) => self.rests(outer, with),
            (Err(_), End::Client(_)) => self.ends.over(end, with.now),
        }
        result
    }

    /// The port of a connection that is not gone on with is not given to another at once.
    fn ends_here(&mut self, end: End, with: &mut With<'_>) {
        let End::Server(outer) = end else { return };
        if self.goes_on_from(outer, None, with) {
            self.rests(outer, with);
        }
    }
}

/// The state, if it is not too old to go on with.
fn in_time(at: Now, now: Now, state: Result<Frozen, String>) -> Result<Frozen, String> {
    let age = now.since(at);
    if age > LIMIT {
        return Err(format!("they were handed over {age} ms ago, and their ends are not waited for after {LIMIT} ms"));
    }
    state
}
