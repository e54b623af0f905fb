//! The table of live calls.

use super::view::{CallsView, End, Traffic};
use crate::human;
use crate::table::{Align, Table};

/// One row a call. Columns NODE and POD come first where any call's is known. Unknown ids are `-`.
pub fn table(view: &CallsView) -> Table {
    let first = [view.calls.iter().any(|call| call.node.is_some()), view.calls.iter().any(|call| call.pod.is_some())];
    let columns = [
        ("NODE", Align::Left),
        ("POD", Align::Left),
        ("CLIENT", Align::Left),
        ("SERVER", Align::Left),
        ("EXTERNAL", Align::Left),
        ("PNS-ID(CLIENT)", Align::Right),
        ("PNS-ID(OUTSIDE)", Align::Right),
        ("PAC-ID", Align::Right),
        ("STATE", Align::Left),
        ("TX", Align::Right),
        ("RX", Align::Right),
        ("LOST", Align::Right),
        ("AGE", Align::Right),
        ("IDLE", Align::Right),
        ("RULE", Align::Left),
    ];
    let columns: Vec<_> = shown(columns, first).collect();
    let mut table = Table::new(&columns);
    for call in &view.calls {
        let cells = [
            call.node.clone().unwrap_or_else(|| "-".into()),
            call.pod.clone().unwrap_or_else(|| "-".into()),
            end(&call.client),
            end(&call.server),
            end(&call.external),
            id(call.pns_call_id),
            id(call.pns_call_id_outside),
            id(call.pac_call_id),
            call.state.to_owned(),
            traffic(call.tx),
            traffic(call.rx),
            (call.tx.lost.saturating_add(call.rx.lost)).to_string(),
            human::duration(call.age_ms),
            human::duration(call.idle_ms),
            call.rule.clone(),
        ];
        table.row(shown(cells, first));
    }
    table
}

/// Without those of the first two that are not to be shown.
fn shown<T>(all: impl IntoIterator<Item = T>, first: [bool; 2]) -> impl Iterator<Item = T> {
    let kept = first.into_iter().chain(std::iter::repeat(true));
    all.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(one, _)| one)
}

fn end(end: &End) -> String {
    format!("{}:{}", end.address, end.port)
}

fn id(id: Option<u32>) -> String {
    id.map_or_else(|| "-".into(), |id| id.to_string())
}

fn traffic(traffic: Traffic) -> String {
    format!("{}/{}", traffic.packets, human::bytes(traffic.bytes))
}
