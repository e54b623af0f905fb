//! Many clients with the same ids do anything at any time, and the agent is restarted in between: a model that only knows
//! who has which call says at each step where every packet has to go.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::messages::*;
use super::pair::{EXTERNAL, Link, Pair, SERVER, client_addr};

/// What can happen, to which client (0 to 4) and which of its call ids (0 to 2).
#[derive(Debug, Clone, Copy)]
enum Step {
    Connect(u32),
    Call(u32, u16),
    Offer(u32, u16),
    Clear(u32, u16),
    Disconnect(u32, u16),
    DisconnectByPnsId(u32, u16),
    Reset(u32),
    Stop(u32),
    Restart,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = || 0u32..5;
    let id = || 0u16..3;
    let step = prop_oneof![
        3 => client().prop_map(Step::Connect),
        6 => (client(), id()).prop_map(|(client, id)| Step::Call(client, id)),
        2 => (client(), id()).prop_map(|(client, id)| Step::Offer(client, id)),
        2 => (client(), id()).prop_map(|(client, id)| Step::Clear(client, id)),
        1 => (client(), id()).prop_map(|(client, id)| Step::Disconnect(client, id)),
        1 => (client(), id()).prop_map(|(client, id)| Step::DisconnectByPnsId(client, id)),
        1 => client().prop_map(Step::Reset),
        1 => client().prop_map(Step::Stop),
        2 => Just(Step::Restart),
        1 => (0u64..20_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

/// A live call: PAC id and translated id.
type Call = (u16, u16);

#[derive(Default)]
struct Model {
    links: BTreeMap<u32, Link>,
    calls: BTreeMap<(u32, u16), Call>,
    next_pac: u16,
    next_port: u16,
}

impl Model {
    fn drop_client(&mut self, client: u32) {
        self.calls.retain(|(of, _), _| *of != client);
    }

    fn apply(&mut self, pair: &mut Pair, step: Step) {
        let pac = self.next_pac;
        match step {
            Step::Connect(client) => {
                if !self.links.contains_key(&client) {
                    self.next_port += 1;
                    self.links.insert(client, pair.start(client_addr(client), 40_000 + self.next_port));
                }
            }
            Step::Call(client, id) => {
                let Some(&link) = self.links.get(&client) else { return };
                self.next_pac += 1;
                self.calls.insert((client, id), (pac, pair.call(link, id, pac)));
            }
            Step::Offer(client, id) => {
                let Some(&link) = self.links.get(&client) else { return };
                self.next_pac += 1;
                pair.server_says(link, &incoming_request(pac));
                pair.client_says(link, &incoming_reply(id, pac, 1));
                let reply = pair.at_server(link).pop().unwrap();
                let translated = u16::from_be_bytes([reply[12], reply[13]]);
                pair.server_says(link, &incoming_connected(translated));
                self.calls.insert((client, id), (pac, translated));
            }
            Step::Clear(client, id) | Step::Disconnect(client, id) | Step::DisconnectByPnsId(client, id) => {
                let Some(&link) = self.links.get(&client) else { return };
                let Some((pac, translated)) = self.calls.get(&(client, id)).copied() else { return };
                if let Step::Clear(..) = step {
                    pair.client_says(link, &call_clear(id));
                    assert_eq!(pair.at_server(link).pop().unwrap(), call_clear(translated));
                }
                // Where the two classes of ids meet, the book's reading wins: the model avoids that case.
                let by_pns = matches!(step, Step::DisconnectByPnsId(..))
                    && !self.calls.values().any(|call| call.0 == translated);
                pair.server_says(link, &disconnect_notify(if by_pns { translated } else { pac }));
                let told = pair.at_client(link).pop().unwrap();
                assert_eq!(told, disconnect_notify(if by_pns { id } else { pac }));
                self.calls.remove(&(client, id));
            }
            Step::Reset(client) => {
                let Some(link) = self.links.remove(&client) else { return };
                let end = pair.clients[&link.client].clone();
                pair.up(end.packet(end.next, callgate_pptp::wire::tcp::Flags::RST, &[]));
                self.drop_client(client);
            }
            Step::Stop(client) => {
                let Some(&link) = self.links.get(&client) else { return };
                pair.client_says(link, &stop_request());
                pair.server_says(link, &stop_reply());
                self.drop_client(client);
            }
            Step::Restart => pair.restart(),
            Step::Wait(ms) => pair.wait(ms),
        }
    }

    /// Every live call's GRE goes to its own ends, and nothing else goes anywhere.
    fn check(&self, pair: &mut Pair) {
        let translated: BTreeSet<u16> = self.calls.values().map(|call| call.1).collect();
        assert_eq!(translated.len(), self.calls.len(), "a translated id was given out twice");
        assert_eq!(pair.engine.call_count(), self.calls.len());
        pair.at_client.clear();
        pair.at_server.clear();
        for (&(client, id), &(pac, translated)) in &self.calls {
            pair.down(gre(SERVER, EXTERNAL, translated, 1, b"down"));
            let got: Vec<_> = pair.at_client.drain(..).map(|packet| read_gre(&packet)).collect();
            assert_eq!(got, [(SERVER, client_addr(client), id, b"down".to_vec())]);
            pair.up(gre(client_addr(client), SERVER, pac, 1, b"up"));
            let got: Vec<_> = pair.at_server.drain(..).map(|packet| read_gre(&packet)).collect();
            assert_eq!(got, [(EXTERNAL, SERVER, pac, b"up".to_vec())]);
            // The same id out of another's mouth.
            pair.up(gre(client_addr(client + 1), SERVER, pac, 1, b"forged"));
            assert_eq!(pair.at_server.len(), 0);
        }
        let nobody = (0..=u16::MAX).find(|id| !translated.contains(id)).unwrap();
        pair.down(gre(SERVER, EXTERNAL, nobody, 1, b"nobody's"));
        assert_eq!((pair.at_client.len(), pair.at_server.len()), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn whatever_some_clients_do_the_calls_of_the_others_go_on(steps in steps()) {
        let mut pair = Pair::new();
        pair.policy.echo_timeout_ms = 0;
        let mut model = Model::default();
        for step in steps {
            model.apply(&mut pair, step);
            model.check(&mut pair);
        }
    }
}
