//! The end of a connection, told from outside to whoever serves it.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

/// Told once, heard by one task at a time.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    told: AtomicBool,
    waker: AtomicWaker,
}

impl Closing {
    /// The connection is to end.
    pub(crate) fn close(&self) {
        self.told.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Ready when it is to end; otherwise the task is woken then.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        // Registered first: whoever closes after the look wakes it.
        self.waker.register(cx.waker());
        if self.told.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until it is to end.
    pub(crate) async fn wait(&self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}
