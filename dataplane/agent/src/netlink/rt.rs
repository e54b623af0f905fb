//! NETLINK_ROUTE by rtnetlink, as blocking calls with a time limit.

use std::time::Duration;

use futures::StreamExt;
use nix::errno::Errno;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload as Payload,
};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::proto::Connection;
use rtnetlink::sys::AsyncSocket;
use tokio::sync::mpsc;

use super::{Error, attr};

/// The kernel answers within microseconds; within seconds where somebody holds its lock for links and routes for long.
const LIMIT: Duration = Duration::from_secs(10);

/// How often a dump is begun anew that the kernel says was disturbed: parts may be missing or twice.
const DUMP_ATTEMPTS: usize = 10;

/// Length of the header of a refused request; the kernel's own words follow it (NETLINK_CAP_ACK, NETLINK_EXT_ACK).
const REFUSED_HEADER: usize = 16;
const NLMSGERR_ATTR_MSG: u16 = 1;

const ENDED: Error = Error::Protocol("the connection ended before the answer");

/// A connection in the network namespace of the thread that opened it, for plain threads and for tokio tasks alike: a thread of
/// its own drives it, and ends with it.
#[derive(Debug)]
pub(crate) struct Rt {
    jobs: mpsc::UnboundedSender<Job>,
}

/// One request, and where its answer goes.
#[derive(Debug)]
struct Job {
    message: Message,
    flags: u16,
    limit: Duration,
    tell: std::sync::mpsc::SyncSender<Result<Answer, Error>>,
}

/// What came back until the acknowledgement, or the end of a dump.
#[derive(Debug, Default)]
struct Answer {
    messages: Vec<Message>,
    disturbed: bool,
}

impl Rt {
    /// Opens one.
    ///
    /// # Errors
    /// When the kernel refuses the socket, or there can be no more threads.
    pub(crate) fn open() -> Result<Self, Error> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let (jobs, todo) = mpsc::unbounded_channel();
        // A thread begins in the network namespace of the one that starts it; there is its socket, now and after a failure.
        let drive = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let opened = runtime.map_err(Error::socket).and_then(|runtime| {
                let line = runtime.block_on(async { Line::open() })?;
                Ok((runtime, line))
            });
            match opened {
                Err(error) => drop(tell.send(Err(error))),
                Ok((runtime, line)) => {
                    drop(tell.send(Ok(())));
                    runtime.block_on(serve(todo, line));
                }
            }
        };
        std::thread::Builder::new().name("rtnetlink".to_owned()).spawn(drive).map_err(Error::socket)?;
        told.recv().unwrap_or(Err(ENDED))?;
        Ok(Self { jobs })
    }

    /// One request; all messages of its answer. A dump that was disturbed is repeated.
    ///
    /// # Errors
    /// What the kernel refuses; `Silent` when it does not answer in time.
    pub(crate) fn request(&self, message: &Message, flags: u16) -> Result<Vec<Message>, Error> {
        // A dump ends by itself. What ends by an acknowledgement also ends where the library cannot read what comes before.
        let end = if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        for _ in 0..DUMP_ATTEMPTS {
            let answer = self.once(message.clone(), flags | end | NLM_F_REQUEST, LIMIT)?;
            if !answer.disturbed {
                return Ok(answer.messages);
            }
        }
        Err(Error::Protocol("the table changed during each of ten dumps"))
    }

    fn once(&self, message: Message, flags: u16, limit: Duration) -> Result<Answer, Error> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.jobs.send(Job { message, flags, limit, tell }).map_err(|_| ENDED)?;
        told.recv().unwrap_or(Err(ENDED))
    }
}

/// Answers one request after the other until nobody can ask any more.
async fn serve(mut todo: mpsc::UnboundedReceiver<Job>, first: Line) {
    let mut line = Some(first);
    while let Some(Job { message, flags, limit, tell }) = todo.recv().await {
        let answer = match line.take().map_or_else(Line::open, Ok) {
            Err(error) => Err(error),
            Ok(mut open) => match tokio::time::timeout(limit, open.ask(message, flags)).await {
                Ok(Ok(answer)) => {
                    line = Some(open);
                    answer
                }
                // A connection that failed, or whose answer may still come, is not used again.
                Ok(Err(ended)) => Err(ended),
                Err(_) => Err(Error::Silent(limit)),
            },
        };
        // Who asked is waiting.
        let _ = tell.send(answer);
    }
}

/// One socket.
struct Line {
    connection: Connection<Message>,
    handle: rtnetlink::Handle,
}

impl Line {
    /// Opens one in the calling thread's network namespace; call it inside a tokio runtime.
    fn open() -> Result<Self, Error> {
        // Strict: the kernel then dumps the routes of one table where one is asked for.
        let opened = rtnetlink::new_connection_with_strict_check().map_err(Error::socket)?;
        let (mut connection, handle, _unasked) = opened;
        let socket = connection.socket_mut().socket_mut();
        // Only for better words.
        let _ = socket.set_cap_ack(true).and_then(|()| socket.set_ext_ack(true));
        // rtnetlink's own requests take a connection that ended for success, and do not tell that a dump was disturbed.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        Ok(Self { connection, handle })
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// The connection has ended; what the kernel refuses is an answer.
    async fn ask(&mut self, message: Message, flags: u16) -> Result<Result<Answer, Error>, Error> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let mut messages = self.handle.request(request).map_err(|_| ENDED)?;
        let mut answer = Answer::default();
        loop {
            let message = tokio::select! {
                biased;
                message = messages.next() => message,
                () = &mut self.connection => None,
            };
            let Some(message) = message else { return Err(ENDED) };
            answer.disturbed |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                Payload::InnerMessage(message) => answer.messages.push(message),
                Payload::Error(error) => {
                    let words = error.header.get(REFUSED_HEADER..).unwrap_or_default();
                    return Ok(verdict(error.raw_code(), words).map(|()| answer));
                }
                Payload::Done(done) => return Ok(verdict(done.code, &done.extended_ack).map(|()| answer)),
                _ => {}
            }
        }
    }
}

/// The result a code stands for: zero is success.
fn verdict(code: i32, words: &[u8]) -> Result<(), Error> {
    if code >= 0 {
        return Ok(());
    }
    let message = attr::find_text(words, NLMSGERR_ATTR_MSG);
    Err(Error::Kernel { errno: Errno::from_raw(code.saturating_neg()), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::LinkUnspec;
    use rtnetlink::packet_core::NLM_F_ECHO;

    fn loopback() -> Message {
        Message::GetLink(LinkUnspec::new_with_name("lo").build())
    }

    fn one_link(messages: &[Message]) {
        assert!(matches!(messages, [Message::NewLink(_)]), "{messages:?}");
    }

    #[test]
    fn a_plain_thread_and_a_task_of_either_runtime_can_ask() {
        one_link(&Rt::open().unwrap().request(&loopback(), 0).unwrap());
        let ask = async { Rt::open().unwrap().request(&loopback(), 0).unwrap() };
        one_link(&tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(ask));
        let many = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let ask = async { Rt::open().unwrap().request(&loopback(), 0).unwrap() };
        one_link(&many.block_on(many.spawn(ask)).unwrap());
    }

    #[test]
    fn a_refusal_comes_with_the_kernels_own_words() {
        // Flags in a question: what NETLINK_GET_STRICT_CHK forbids.
        let wrong = Message::GetLink(LinkUnspec::new_with_index(1).up().build());
        let refused = Rt::open().unwrap().request(&wrong, 0);
        assert!(matches!(&refused, Err(Error::Kernel { errno: Errno::EINVAL, message: Some(_) })), "{refused:?}");
    }

    #[test]
    fn a_request_without_an_answer_is_given_up_and_the_next_is_answered() {
        let rt = Rt::open().unwrap();
        // The kernel ignores what is not marked as a request.
        let limit = Duration::from_millis(50);
        assert!(matches!(rt.once(loopback(), NLM_F_ECHO, limit), Err(Error::Silent(silent)) if silent == limit));
        one_link(&rt.request(&loopback(), 0).unwrap());
    }

    #[test]
    fn a_dump_that_fails_says_why() {
        assert_eq!(verdict(0, &[]), Ok(()));
        let words = attr::Attrs::new().text(NLMSGERR_ATTR_MSG, "no such table").into_bytes();
        let expected = Error::Kernel { errno: Errno::ENOENT, message: Some("no such table".into()) };
        assert_eq!(verdict(-(Errno::ENOENT as i32), &words), Err(expected));
    }
}
