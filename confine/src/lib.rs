//! What happens in a child process between fork and exec.
//!
//! A crate of its own because the standard library offers that place to `unsafe` code only, and because
//! hauld forbids itself `unsafe` everywhere, which nothing within one crate can lift. Limits that are set
//! on a running child come too late: it may have written its core file, or started children, by then.
#![deny(unsafe_op_in_unsafe_fn)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal, getpid, getppid, set_parent_process_death_signal, setrlimit};

/// Has the kernel kill the child when the thread that starts it ends, even by SIGKILL of the process,
/// bounds the memory that is its own (in bytes; what it only reserves or shares is not), closes all
/// descriptors but the standard ones, and keeps it from leaving a core file, which may hold what it was told.
pub fn confine(command: &mut Command, max_memory: u64) {
    let parent = getpid();
    let at_most = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are
    // allowed. It makes plain system calls, which neither allocate nor lock.
    unsafe {
        command.pre_exec(move || {
            setrlimit(Resource::Core, at_most(0))?;
            // Ours are closed anyway; these are what we were started with ourselves. A kernel before 5.11
            // does not know the call, and leaves them open.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            setrlimit(Resource::Data, at_most(max_memory))?;
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // A parent that died before the call above sends no signal any more.
            if getppid() != Some(parent) {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
            }
            Ok(())
        });
    }
}
