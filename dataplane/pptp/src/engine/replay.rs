//! The journal read back change by change: what is kept is the state after them, however many they were.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::call::CallData;
use super::connection::ConnectionData;
use super::record::{Change, ConnectionRecord, ConnectionUpdate, Opened, Quarantined, QuarantinedWhat, RecordData};
use crate::types::Now;

/// State as far as the journal was read.
#[derive(Debug)]
pub struct Replay {
    now: Now,
    connections: BTreeMap<u64, Replayed>,
    quarantined: BTreeMap<(Ipv4Addr, Ipv4Addr, QuarantinedWhat), Now>,
    next_id: u64,
}

/// A connection of it.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) opened: Opened,
    pub(super) data: ConnectionData,
    /// By their numbers.
    pub(super) calls: BTreeMap<u32, CallData>,
}

impl Replay {
    /// Nothing was read yet. What is over at `now` is not kept.
    pub fn new(now: Now) -> Self {
        Self { now, connections: BTreeMap::new(), quarantined: BTreeMap::new(), next_id: 1 }
    }

    /// Reads the next change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Update(update) => self.update(*update),
            Change::Put(record) => self.put(*record),
            Change::Remove(id) => {
                self.seen(id);
                self.connections.remove(&id);
            }
            Change::Quarantine(Quarantined { external, server, what, until }) => {
                if until > self.now {
                    self.quarantined.insert((external, server, what), until);
                }
            }
        }
    }

    fn seen(&mut self, id: u64) {
        self.next_id = self.next_id.max(id.saturating_add(1));
    }

    fn update(&mut self, update: ConnectionUpdate) {
        let ConnectionUpdate { id, opened, data, calls, over } = update;
        self.seen(id);
        match (self.connections.get_mut(&id), opened) {
            (Some(known), opened) => {
                known.data = data;
                known.opened = opened.unwrap_or_else(|| known.opened.clone());
            }
            (None, Some(opened)) => {
                self.connections.insert(id, Replayed { opened, data, calls: BTreeMap::new() });
            }
            // The line that opened it is lost, and was reported.
            (None, None) => {}
        }
        if let Some(known) = self.connections.get_mut(&id) {
            known.calls.extend(calls);
            for number in over {
                known.calls.remove(&number);
            }
        }
    }

    fn put(&mut self, record: ConnectionRecord) {
        let ConnectionRecord { id, flow, external, external_port, data } = record;
        let RecordData { policy, client_isn, created, data, calls } = data;
        self.seen(id);
        let opened = Opened { flow, external, external_port, policy, client_isn, created };
        let calls = (0..).zip(calls).collect();
        self.connections.insert(id, Replayed { opened, data, calls });
    }

    /// What was live at the end, what rests, and the number of the next connection.
    pub(super) fn into_parts(self) -> (BTreeMap<u64, Replayed>, impl Iterator<Item = Quarantined>, u64) {
        let quarantined = self.quarantined.into_iter();
        let quarantined =
            quarantined.map(|((external, server, what), until)| Quarantined { external, server, what, until });
        (self.connections, quarantined, self.next_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;
    use crate::types::{Flow, Policy};
    use crate::wire::Seq;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn update(id: u64, first: bool) -> Change {
        let text = r#"{"state":"opening","client":{"window":1},"server":{"window":1},"started":false,"connected":1,"seen":[1,1],"up":"#;
        let text = format!("{text}{}}}", serde_json::to_string(&Stream::new(Seq(1))).unwrap_or_default());
        let policy = Policy {
            rule: "pos/tills".into(),
            service: "pos/pptp".into(),
            alg: "pos/alg".into(),
            echo_timeout_ms: 0,
            idle_timeout_ms: 0,
            max_calls: 0,
            max_sessions: 0,
            strict: true,
        };
        let opened = Opened {
            flow: Flow { client: ADDRESS, client_port: id as u16, server: ADDRESS, server_port: 1723 },
            external: ADDRESS,
            external_port: id as u16,
            policy: policy.into(),
            client_isn: Seq(1),
            created: Now(1),
        };
        Change::Update(Box::new(ConnectionUpdate {
            id,
            opened: first.then_some(opened),
            data: serde_json::from_str(&text).expect("what may be left out is"),
            calls: Vec::new(),
            over: Vec::new(),
        }))
    }

    #[test]
    fn what_is_over_is_not_kept_and_a_connection_whose_first_line_is_lost_is_none() {
        let mut replay = Replay::new(Now(1_000));
        for id in 1..500 {
            replay.apply(update(id, true));
            replay.apply(update(id, false));
            replay.apply(Change::Remove(id));
            let what = QuarantinedWhat::CallId(id as u16);
            replay.apply(Change::Quarantine(Quarantined {
                external: ADDRESS,
                server: ADDRESS,
                what,
                until: Now(id * 4),
            }));
        }
        replay.apply(update(500, true));
        replay.apply(update(600, false));
        let (connections, quarantined, next_id) = replay.into_parts();
        assert_eq!((connections.into_keys().collect::<Vec<_>>(), next_id), (vec![500], 601));
        assert_eq!(
            quarantined.map(|entry| entry.until.0).collect::<Vec<_>>(),
            (251..500).map(|id| id * 4).collect::<Vec<_>>()
        );
    }
}
