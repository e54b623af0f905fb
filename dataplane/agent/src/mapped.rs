//! Memory that the kernel shares with us through a file descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

/// A mapping that can be read and written; unmapped when dropped. What may be done with its memory is its owner's to know.
#[derive(Debug)]
pub(crate) struct Mapped {
    memory: NonNull<u8>,
    length: usize,
}

impl Mapped {
    /// The first `length` bytes of what `fd` stands for, page-aligned.
    ///
    /// # Errors
    /// What mmap gives: EINVAL where there are fewer.
    pub(crate) fn of(fd: &impl AsFd, length: usize) -> io::Result<Self> {
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, fd.as_fd().as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { memory, length })
    }

    /// Its first byte; the pointer is good until this is dropped.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.memory
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `of`, of this length; who has taken pointers of it has this too.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.length) };
    }
}
