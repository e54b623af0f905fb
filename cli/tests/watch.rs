//! `calls -w`: lists as they come, an agent that goes away, a reader that has seen enough.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Mutex;

use callgate_proto::pb;
use common::{Answers, Place, Running, fixtures, serve, watch};
use tokio::sync::mpsc;
use tonic::Status;

type Sender = mpsc::UnboundedSender<Result<pb::CallList, Status>>;

fn agent(place: &Place) -> (Running, Sender) {
    let (lists, receiver) = mpsc::unbounded_channel();
    let answers = Answers { watch: Mutex::new(Some(receiver)), ..Answers::default() };
    (serve(&place.socket(), answers), lists)
}

fn line(place: &Place, options: &str) -> String {
    format!("kubectl-callgate calls -w --api {}{options}", place.socket().display())
}

fn none(seconds: i64) -> pb::CallList {
    pb::CallList { taken_unix_ms: common::NOW + seconds * 1000, ..pb::CallList::default() }
}

fn one() -> pb::CallList {
    let mut list = fixtures::calls();
    list.calls.truncate(1);
    list
}

const ONE: &str = "\
2026-11-21T10:00:00Z
CLIENT            SERVER             EXTERNAL            PNS-ID(CLIENT)  PNS-ID(OUTSIDE)  PAC-ID  STATE        TX    RX  LOST   AGE  IDLE  RULE
10.42.0.10:40002  203.0.113.20:1723  198.51.100.1:61003               -                -       0  Requested  0/0B  0/0B     0  20ms  20ms  pos/tills-to-head-office
";

#[tokio::test]
async fn lists_are_appended_where_the_output_is_no_terminal() {
    let place = Place::new();
    let (agent, lists) = agent(&place);
    let mut watching = watch(&line(&place, ""), false);
    lists.send(Ok(one())).unwrap();
    assert_eq!(watching.out.recv().await.unwrap(), ONE);
    lists.send(Ok(none(1))).unwrap();
    assert_eq!(watching.out.recv().await.unwrap(), "\n2026-11-21T10:00:01Z\nno live calls\n");
    let request = pb::WatchCallsRequest { interval_ms: 0, on_change: true };
    assert_eq!(*agent.answers.asked.lock().unwrap(), [format!("{request:?}")]);
    watching.code.abort();
}

#[tokio::test]
async fn a_terminal_is_redrawn_every_second_unless_told_otherwise() {
    for (options, interval_ms) in [("", 1000), (" --interval 2.5", 2500)] {
        let place = Place::new();
        let (agent, lists) = agent(&place);
        let mut watching = watch(&line(&place, options), true);
        for _ in 0..2 {
            lists.send(Ok(one())).unwrap();
            assert_eq!(watching.out.recv().await.unwrap(), format!("\x1b[H\x1b[J{ONE}"));
        }
        let request = pb::WatchCallsRequest { interval_ms, on_change: false };
        assert_eq!(*agent.answers.asked.lock().unwrap(), [format!("{request:?}")]);
        watching.code.abort();
    }
}

#[tokio::test]
async fn json_is_one_document_a_line_also_on_a_terminal() {
    let place = Place::new();
    let (_agent, lists) = agent(&place);
    let mut watching = watch(&line(&place, " -o json"), true);
    for second in 0..2 {
        lists.send(Ok(none(second))).unwrap();
        let expected = format!("{{\"taken\":\"2026-11-21T10:00:0{second}Z\",\"calls\":[]}}\n");
        assert_eq!(watching.out.recv().await.unwrap(), expected);
    }
    watching.code.abort();
}

#[tokio::test]
async fn an_agent_that_goes_away_is_told_waited_for_and_watched_again() {
    let place = Place::new();
    let (first, lists) = agent(&place);
    let mut watching = watch(&line(&place, ""), false);
    lists.send(Ok(one())).unwrap();
    assert_eq!(watching.out.recv().await.unwrap(), ONE);
    drop(first);
    let lost = place.plain(&watching.err.recv().await.unwrap());
    assert!(lost.starts_with("the agent at SOCKET does not answer: "), "{lost}");
    assert!(lost.ends_with("; trying again every 1s\n"), "{lost}");

    let (_second, lists) = agent(&place);
    assert_eq!(place.plain(&watching.err.recv().await.unwrap()), "connected to the agent at SOCKET again\n");
    lists.send(Ok(none(1))).unwrap();
    assert_eq!(watching.out.recv().await.unwrap(), "\n2026-11-21T10:00:01Z\nno live calls\n");
    watching.code.abort();
}

#[tokio::test]
async fn an_agent_that_ends_the_watch_in_good_order_is_asked_again() {
    let place = Place::new();
    let (agent, lists) = agent(&place);
    let mut watching = watch(&line(&place, ""), false);
    lists.send(Ok(none(0))).unwrap();
    watching.out.recv().await.unwrap();
    let (next, receiver) = mpsc::unbounded_channel();
    *agent.answers.watch.lock().unwrap() = Some(receiver);
    drop(lists);
    let lost = place.plain(&watching.err.recv().await.unwrap());
    assert_eq!(lost, "the agent at SOCKET ended the watch; trying again every 1s\n");
    watching.err.recv().await.unwrap();
    next.send(Ok(none(1))).unwrap();
    assert_eq!(watching.out.recv().await.unwrap(), "\n2026-11-21T10:00:01Z\nno live calls\n");
    watching.code.abort();
}

#[tokio::test]
async fn a_refusal_ends_the_watch_with_4() {
    let place = Place::new();
    let (_agent, lists) = agent(&place);
    let mut watching = watch(&line(&place, ""), false);
    lists.send(Err(Status::resource_exhausted("8 watches are open already; close one"))).unwrap();
    let message = "error: the agent says: 8 watches are open already; close one\n";
    assert_eq!(watching.err.recv().await.unwrap(), message);
    assert_eq!(watching.code.await.unwrap(), 4);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_ends_the_watch_without_a_word() {
    let place = Place::new();
    let (_agent, lists) = agent(&place);
    let mut watching = watch(&line(&place, ""), false);
    lists.send(Ok(none(0))).unwrap();
    watching.out.recv().await.unwrap();
    watching.out.close();
    lists.send(Ok(none(1))).unwrap();
    assert_eq!(watching.code.await.unwrap(), 0);
    assert_eq!(watching.err.recv().await, None);
}
