//! The older place for a program at a link's ingress: a filter behind the qdisc `clsact`, which outlives the process.

use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::Error;
use super::rt::Rt;

const INGRESS: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };
const EGRESS: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_EGRESS };

/// ETH_P_IP in network byte order.
const IPV4: u16 = 0x0800_u16.to_be();

/// Makes the qdisc on the link with this number; false if it is there already.
pub(crate) fn prepare(rt: &Rt, link: u32) -> Result<bool, Error> {
    let mut qdisc = TcMessage::with_index(link as i32);
    qdisc.header.parent = TcHandle::CLSACT;
    qdisc.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    qdisc.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    match rt.request(&Message::NewQueueDiscipline(qdisc), NLM_F_CREATE | NLM_F_EXCL) {
        Ok(_) => Ok(true),
        Err(Error::Kernel { errno: Errno::EEXIST, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the qdisc is on this link.
pub(crate) fn is_prepared(rt: &Rt, link: u32) -> Result<bool, Error> {
    let mut qdisc = TcMessage::with_index(link as i32);
    qdisc.header.parent = TcHandle::CLSACT;
    // Where there was one the kernel has another in its place, whose handle is 0.
    qdisc.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    match rt.request(&Message::GetQueueDiscipline(qdisc), 0) {
        Ok(_) => Ok(true),
        Err(Error::Kernel { errno: Errno::ENODEV | Errno::ENOENT | Errno::EINVAL, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Puts a program behind the qdisc, or in the place of the one that is there under the same priority: from one packet to the next.
pub(crate) fn put(rt: &Rt, link: u32, priority: u16, program: i32, name: &str) -> Result<(), Error> {
    let mut filter = filter(link, priority);
    let options = [
        TcFilterBpfOption::ProgFd(program as u32),
        TcFilterBpfOption::ProgName(name.to_owned()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    filter.attributes.push(TcAttribute::Options(options.map(TcOption::Bpf).to_vec()));
    rt.request(&Message::NewTrafficFilter(filter), NLM_F_CREATE).map(drop)
}

/// Takes it away; with the qdisc, if `qdisc` is set and no filter of anybody else is behind it. Gone already is fine.
pub(crate) fn remove(rt: &Rt, link: u32, priority: u16, qdisc: bool) -> Result<(), Error> {
    gone(rt.request(&Message::DelTrafficFilter(filter(link, priority)), 0))?;
    if qdisc && filters(rt, link, INGRESS)?.is_empty() && filters(rt, link, EGRESS)?.is_empty() {
        remove_qdisc(rt, link)?;
    }
    Ok(())
}

fn filter(link: u32, priority: u16) -> TcMessage {
    let mut filter = TcMessage::with_index(link as i32);
    filter.header.parent = INGRESS;
    filter.header.handle = TcHandle { major: 0, minor: 1 };
    filter.header.info = u32::from(priority) << 16 | u32::from(IPV4);
    filter.attributes.push(TcAttribute::Kind("bpf".to_owned()));
    filter
}

/// Whether a program is on this link under this priority.
pub(crate) fn is_there(rt: &Rt, link: u32, priority: u16) -> Result<bool, Error> {
    let found = filters(rt, link, INGRESS)?;
    Ok(found.iter().any(|filter| filter.header.info >> 16 == u32::from(priority)))
}

fn filters(rt: &Rt, link: u32, parent: TcHandle) -> Result<Vec<TcMessage>, Error> {
    let mut all = TcMessage::with_index(link as i32);
    all.header.parent = parent;
    let found = match rt.request(&Message::GetTrafficFilter(all), NLM_F_DUMP) {
        Ok(found) => found,
        Err(Error::Kernel { errno: Errno::EINVAL | Errno::ENODEV | Errno::ENOENT, .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let filter = |message| match message {
        Message::NewTrafficFilter(filter) => Some(filter),
        _ => None,
    };
    Ok(found.into_iter().filter_map(filter).collect())
}

fn remove_qdisc(rt: &Rt, link: u32) -> Result<(), Error> {
    let mut qdisc = TcMessage::with_index(link as i32);
    qdisc.header.parent = TcHandle::CLSACT;
    gone(rt.request(&Message::DelQueueDiscipline(qdisc), 0))
}

/// The link, the qdisc or the filter is not there: that is what was wanted.
fn gone(answer: Result<Vec<Message>, Error>) -> Result<(), Error> {
    match answer {
        Ok(_) | Err(Error::Kernel { errno: Errno::ENODEV | Errno::ENOENT | Errno::EINVAL, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
