/* Lets User Mode Linux 6.1 run on CPUs whose register state is larger than it knows: loaded into it by LD_PRELOAD. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* linux/elf.h. */
#define NT_X86_XSTATE 0x202

/*
 * Since AMX the kernel takes a process's extended state only whole (arch/x86/kernel/fpu/regset.c, xstateregs_set), which is more than
 * there is room for in UML: what it knows is laid over what is there.
 */
static long set_state(pid_t pid, void *kind, struct iovec *known)
{
	static _Thread_local char whole[1 << 16] __attribute__((aligned(64)));
	struct iovec all = {whole, sizeof(whole)};

	if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, kind, &all) < 0)
		return -1;
	memcpy(whole, known->iov_base, known->iov_len < all.iov_len ? known->iov_len : all.iov_len);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, kind, &all);
}

/* In place of the C library's. */
long ptrace(enum __ptrace_request request, ...)
{
	va_list rest;
	long word;

	va_start(rest, request);
	pid_t pid = va_arg(rest, pid_t);
	void *address = va_arg(rest, void *), *data = va_arg(rest, void *);
	va_end(rest);
	switch (request) {
	case PTRACE_PEEKTEXT:
	case PTRACE_PEEKDATA:
	case PTRACE_PEEKUSER:
		if (syscall(SYS_ptrace, request, pid, address, &word) < 0)
			return -1;
		errno = 0;
		return word;
	case PTRACE_SETREGSET:
		if ((long)address == NT_X86_XSTATE)
			return set_state(pid, address, data);
		break;
	default:
		break;
	}
	return syscall(SYS_ptrace, request, pid, address, data);
}
