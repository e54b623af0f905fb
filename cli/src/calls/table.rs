//! The table of live calls.

use super::view::{CallView, CallsView, End, Traffic};
use crate::human;
use crate::table::{Align, Table};

/// One row a call. Columns NODE and POD come first where any call's is known, TUNNEL after them where any call is in one.
/// Unknown ids are `-`.
pub fn table(view: &CallsView) -> Table {
    let any = |known: fn(&CallView) -> bool| view.calls.iter().any(known);
    let optional = [any(|call| call.node.is_some()), any(|call| call.pod.is_some()), any(|call| call.tunnel.is_some())];
    let columns = [
        ("NODE", Align::Left),
        ("POD", Align::Left),
        ("TUNNEL", Align::Right),
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
    let columns: Vec<_> = shown(columns, optional).collect();
    let mut table = Table::new(&columns);
    for call in &view.calls {
        let cells = [
            call.node.clone().unwrap_or_else(|| "-".into()),
            call.pod.clone().unwrap_or_else(|| "-".into()),
            call.tunnel.map_or_else(|| "-".into(), |tunnel| tunnel.to_string()),
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
        table.row(shown(cells, optional));
    }
    table
}

/// Without those of the first three that are not to be shown.
fn shown<T>(all: impl IntoIterator<Item = T>, optional: [bool; 3]) -> impl Iterator<Item = T> {
    let kept = optional.into_iter().chain(std::iter::repeat(true));
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
