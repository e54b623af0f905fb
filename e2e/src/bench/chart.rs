//! The chart: cost of a packet against the number of calls, both logarithmic, as SVG.

use std::fmt::Write as _;

use super::bed::Kind;
use super::report::{Cell, Report, spread};
use super::site::Direction;

/// Octets of the packets that are drawn.
const LENGTH: usize = 80;
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Left, top, right, bottom.
const MARGINS: [f64; 4] = [64.0, 24.0, 190.0, 48.0];
/// Powers of ten on the axes: calls, ns.
const CALLS: [i32; 6] = [0, 1, 2, 3, 4, 5];
const NS: [f64; 6] = [500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0];

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Plain => "#7f7f7f",
        Kind::Masquerade => "#9467bd",
        Kind::KernelAlg => "#d62728",
        Kind::Slow => "#ff7f0e",
        Kind::Fast => "#1f77b4",
        Kind::Xdp => "#17becf",
    }
}

fn x(calls: f64) -> f64 {
    MARGINS[0] + calls.log10() / 5.0 * (WIDTH - MARGINS[0] - MARGINS[2])
}

fn y(ns: f64) -> f64 {
    let (low, high) = (NS[0].log10(), NS[5].log10());
    HEIGHT - MARGINS[3] - (ns.clamp(NS[0], NS[5]).log10() - low) / (high - low) * (HEIGHT - MARGINS[1] - MARGINS[3])
}

/// Packets of servers to clients; each point is a median, the bar is from minimum to maximum.
pub fn svg(report: &Report) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let (right, bottom) = (x(1e5), y(NS[0]));
    for ns in NS {
        let at = y(ns);
        let _ = writeln!(out, "<path d=\"M{} {at:.1}H{right}\" stroke=\"#ddd\"/>", MARGINS[0]);
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{ns}</text>", MARGINS[0] - 6.0, at + 4.0);
    }
    for power in CALLS {
        let at = x(10_f64.powi(power));
        let _ = writeln!(out, "<path d=\"M{at:.1} {}V{bottom}\" stroke=\"#ddd\"/>", MARGINS[1]);
        let calls = 10_u64.pow(power.unsigned_abs());
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{calls}</text>", bottom + 18.0);
    }
    let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">live calls</text>", x(316.0), bottom + 38.0);
    let _ =
        writeln!(out, "<text x=\"8\" y=\"14\">ns of gateway CPU a packet ({LENGTH} octets, server to client)</text>");
    for kind in Kind::ALL {
        let drawn = |cell: &Cell| match *cell {
            Cell::Gre { direction: Direction::Down, length: LENGTH, calls, kind: of } => (of == kind).then_some(calls),
            Cell::Gre { .. } | Cell::Card { .. } | Cell::Delay { .. } | Cell::Ordinary { .. } | Cell::SetUps { .. } => {
                None
            }
        };
        let points: Vec<(f64, (f64, f64, f64))> = report
            .cells
            .iter()
            .filter(|(_, values)| !values.found.is_empty())
            .filter_map(|(cell, values)| Some((drawn(cell)? as f64, spread(&values.main()))))
            .collect();
        let Some((last, (_, end, _))) = points.last() else { continue };
        let line: Vec<String> =
            points.iter().map(|(calls, (_, ns, _))| format!("{:.1},{:.1}", x(*calls), y(*ns))).collect();
        let colour = colour(kind);
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (calls, (low, ns, high)) in &points {
            let at = x(*calls);
            let _ = writeln!(out, "<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>", y(*ns));
            let _ = writeln!(out, "<path d=\"M{at:.1} {:.1}V{:.1}\" stroke=\"{colour}\"/>", y(*low), y(*high));
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            x(*last) + 8.0,
            y(*end) + 4.0,
            kind.name()
        );
    }
    out + "</svg>\n"
}
