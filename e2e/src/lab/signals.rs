//! On SIGTERM, SIGINT or SIGHUP every lab of this process is removed before it ends; who asks for it may end by itself first.

use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Once, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Write end of the pipe that takes a signal's number from the handler to the thread.
static PIPE: AtomicI32 = AtomicI32::new(-1);
static ONCE: Once = Once::new();
/// The first signal is only told.
static PATIENT: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

/// Labs are being removed: nothing of them is made any more.
static ENDING: AtomicBool = AtomicBool::new(false);
/// Read by whoever makes something of a lab, as long as it takes.
static MAKING: RwLock<()> = RwLock::new(());
/// How long the removal waits for what is being made.
const MADE: Duration = Duration::from_secs(5);

/// To be held while something of a lab is made that the removal has to find. Does not come back once that has begun: the process is
/// about to end.
pub fn making() -> RwLockReadGuard<'static, ()> {
    let guard = MAKING.read().unwrap_or_else(PoisonError::into_inner);
    if ENDING.load(Ordering::SeqCst) {
        drop(guard);
        wait_for_the_end();
    }
    guard
}

/// Does not come back once labs are being removed because of a signal: whoever goes on might end the process before that is done.
pub fn wait_if_ending() {
    if ENDING.load(Ordering::SeqCst) {
        wait_for_the_end();
    }
}

fn wait_for_the_end() -> ! {
    loop {
        std::thread::park();
    }
}

/// From now on nothing of a lab is made; what was under way is there.
fn end_making() {
    ENDING.store(true, Ordering::SeqCst);
    drop(crate::wait::until_true("what is being made is there", MADE, || Ok(MAKING.try_write().is_ok())));
}

/// As `install`, but the first signal is only told by `asked_to_end`: what is under way has something to say before its end. The
/// second one ends it.
pub fn install_patient() {
    PATIENT.store(true, Ordering::SeqCst);
    install();
}

/// Whether there was a signal.
pub fn asked_to_end() -> bool {
    ASKED.load(Ordering::SeqCst)
}

extern "C" fn tell(signal: libc::c_int) {
    let byte = signal as u8;
    // SAFETY: write(2) is async-signal-safe (signal-safety(7)), the fd is open for the life of the process, one byte is read.
    unsafe { libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
}

/// Installs the handlers, once. Exit code is 128 + signal number, as shells have it.
pub fn install() {
    ONCE.call_once(|| {
        let Ok((read, write)) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC) else { return };
        PIPE.store(write.as_raw_fd(), Ordering::Relaxed);
        // Stays open as long as the process.
        let _ = write.into_raw_fd();
        let action = SigAction::new(SigHandler::Handler(tell), SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            // SAFETY: the handler only writes to a pipe, which is allowed in a signal handler.
            let _ = unsafe { sigaction(signal, &action) };
        }
        std::thread::spawn(move || {
            let mut byte = [0];
            loop {
                match nix::unistd::read(&read, &mut byte) {
                    Ok(1) if PATIENT.load(Ordering::SeqCst) && !ASKED.swap(true, Ordering::SeqCst) => {
                        eprintln!("signal {}: ending what is under way first; once more: at once", byte[0]);
                    }
                    Ok(1) => break,
                    Err(nix::errno::Errno::EINTR) => {}
                    Ok(_) | Err(_) => return,
                }
            }
            eprintln!("signal {}: removing the lab", byte[0]);
            end_making();
            super::names::sweep_own();
            std::process::exit(128 + i32::from(byte[0]));
        });
    });
}
