//! The thread that opens the accounts, and then listens to what the kernel tells.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use mezzo_agent_accounting::{Accounting, Event, Events, Happening, OpenError, discard_orphans};
use mezzo_telemetry::chain;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::book::{Holder, Noted};
use super::handle::{Running, Shared};
use super::place::ensure_bpffs;

/// What wakes and ends the thread, and what it listens to.
#[derive(Debug, Default)]
pub(super) struct End {
    wake: OnceLock<EventFd>,
    events: Mutex<Option<Listening>>,
}

/// The stream of events, of which there is one reader at a time.
pub(super) struct Listening(Events);

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listening")
    }
}

impl End {
    pub(super) fn signal(&self) {
        if let Some(wake) = self.wake.get() {
            // It fails only when it is full, and then it is read in a moment.
            let _ = wake.write(1);
        }
    }
}

/// Starts the thread.
pub(super) fn start(shared: Arc<Shared>, running: Running) {
    // Before the thread runs, so that whoever ends it need not wait for it.
    match EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK) {
        Ok(wake) => drop(shared.end.wake.set(wake)),
        Err(errno) => return absent(&shared, format!("no eventfd is to be had: {errno}")),
    }
    let thread = std::thread::Builder::new().name("mezzo-accounts".to_owned());
    let keeper = Arc::clone(&shared);
    if let Err(error) = thread.spawn(move || keep(&keeper, &running)) {
        absent(&shared, format!("no thread can be started: {error}"));
    }
}

fn keep(shared: &Shared, running: &Running) {
    let begun = Instant::now();
    let accounting = match open(shared, running) {
        Ok(opened) => opened,
        Err(reason) => return absent(shared, reason),
    };
    let state = accounting.state();
    tracing::info!(
        take_over = ?state.take_over,
        running = running.len(),
        ms = begun.elapsed().as_millis() as u64,
        "the kernel counts and guards"
    );
    for complaint in state.complaints() {
        tracing::warn!("{complaint}");
    }
    shared.settle(Ok(accounting));
    listen(shared);
}

fn absent(shared: &Shared, reason: String) {
    tracing::warn!(
        "nothing is counted or guarded by eBPF, figures come from control groups alone: {reason}"
    );
    shared.settle(Err(reason));
}

fn open(shared: &Shared, running: &Running) -> Result<Accounting, String> {
    let Some(settings) = &shared.settings else {
        return Err("there is no cgroup v2 tree".to_owned());
    };
    if let Err(error) = ensure_bpffs(&shared.options.bpffs) {
        // The opening says what is missing and how to mend it.
        tracing::debug!(%error, "could not mount a bpffs");
    }
    let told = |error: OpenError| chain(&error).to_string();
    let orphans = shared.options.agents();
    if let Err(error) = discard_orphans(&orphans, &settings.pins) {
        tracing::warn!(error = told(error), "programs of an agent that is gone stay attached");
    }
    let accounting = Accounting::open(settings, running).map_err(told)?;
    let events = accounting.events().map_err(told)?;
    *shared.end.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(Listening(events));
    Ok(accounting)
}

/// Until it is told to end.
fn listen(shared: &Shared) {
    let Some(wake) = shared.end.wake.get() else { return };
    let descriptors = {
        let events = shared.end.events.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Listening(events)) = &*events else { return };
        events.descriptors().map(|fd| fd.try_clone_to_owned())
    };
    let [Ok(endings), Ok(refusals)] = descriptors else {
        tracing::warn!("what the kernel refuses is counted, but not told: out of descriptors");
        return;
    };
    loop {
        shared.drain();
        let mut polled = [endings.as_fd(), refusals.as_fd(), wake.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                tracing::warn!(%errno, "what the kernel refuses is counted, but not told any more");
                return;
            }
        }
        if polled[2].any() == Some(true) {
            return;
        }
    }
}

impl Shared {
    /// Takes what has happened so far.
    pub(super) fn drain(&self) {
        let mut events = self.end.events.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Listening(events)) = &mut *events else { return };
        while let Some(event) = events.take() {
            let noted = self.book().note(&event);
            match noted {
                Some(Noted::Refused(holder, _)) => tell_refusal(&holder, &event),
                Some(Noted::OutOfMemory(holder)) => tell_kill(&holder, &event),
                None => {}
            }
        }
    }
}

fn tell_refusal(holder: &Holder, event: &Event) {
    let Holder { framework, task, container } = holder;
    let Event { process, command, .. } = event;
    match &event.what {
        Happening::PortDenied { how, transport, port, ipv6, enforced } => tracing::warn!(
            %framework, %task, %container, process, command, port, ?transport, ipv6, ?how, enforced,
            "a task wants a port that it was not given"
        ),
        Happening::DeviceDenied(device) => tracing::warn!(
            %framework, %task, %container, process, command, ?device,
            "a task was refused a device"
        ),
        _ => {}
    }
}

fn tell_kill(holder: &Holder, event: &Event) {
    let Holder { framework, task, container } = holder;
    let Event { process, command, .. } = event;
    if let Happening::OomKill { anonymous, file, shared, total } = event.what {
        tracing::info!(
            %framework, %task, %container, process, command, anonymous, file, shared, total,
            "the kernel killed a process for want of memory"
        );
    }
}
