//! The connection to the launcher, made anew when it breaks, and the way of its events to the containers they concern.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mezzo_agent_launcher::{ClientError, Event, Launcher, LauncherClient, SpawnError, Upgrade};
use mezzo_types::ContainerId;
use tokio::sync::mpsc;

use super::report::chain;
use super::run::Order;

/// Orders that wait for one container. It gets a handful of events from the launcher in its life; a framework may
/// order as many signals as it likes.
pub(super) const ORDERS_MAX: usize = 64;
/// Places that signals do not take: the rest is what a container cannot do without.
const ORDERS_FOR_EVENTS: usize = 32;

/// Attempts at a launcher, and the pause after the first, which doubles: 0.3 s in all.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Where the orders of each container go.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    known: HashMap<ContainerId, mpsc::Sender<Order>>,
    /// Until recovery is over, what the launcher tells of containers that were not taken up yet.
    early: HashMap<ContainerId, Vec<Order>>,
    /// The launcher was lost meanwhile: those that are taken up later have to hear of it, too.
    lost: bool,
    settled: bool,
}

impl Routes {
    /// `false` if the container is known already.
    pub(super) fn add(&self, id: ContainerId, orders: mpsc::Sender<Order>) -> bool {
        let mut table = lock(&self.0);
        if table.known.contains_key(&id) {
            return false;
        }
        for order in table.early.remove(&id).unwrap_or_default() {
            push(&orders, order);
        }
        if table.lost && !table.settled {
            push(&orders, Order::LauncherLost);
        }
        table.known.insert(id, orders);
        true
    }

    /// All containers of before are taken up: events about others are nobody's.
    pub(super) fn settle(&self) {
        let mut table = lock(&self.0);
        table.settled = true;
        table.early = HashMap::new();
    }

    pub(super) fn remove(&self, id: &ContainerId) {
        lock(&self.0).known.remove(id);
    }

    /// `false` if there is no such container, or it is being forgotten.
    pub(super) fn send(&self, id: &str, order: Order) -> bool {
        match lock(&self.0).known.get(id) {
            Some(orders) => push(orders, order),
            None => false,
        }
    }

    /// As `send`, but keeps the order for a container that recovery is about to take up.
    fn tell(&self, id: String, order: Order) {
        let mut table = lock(&self.0);
        match table.known.get(id.as_str()) {
            // A container that does not listen any more has ended.
            Some(orders) => {
                push(orders, order);
            }
            None if table.settled => {}
            None => table.early.entry(id.into()).or_default().push(order),
        }
    }

    fn lose(&self) {
        let mut table = lock(&self.0);
        table.lost = true;
        for orders in table.known.values() {
            push(orders, Order::LauncherLost);
        }
    }

    /// Runs on the client's reading thread.
    fn deliver(&self, event: Event) {
        match event {
            Event::Started { container, pid, start_time_ticks } => {
                self.tell(container, Order::Started { pid, start_time_ticks });
            }
            Event::LaunchFailed { container, failure } => {
                self.tell(container, Order::Failed(failure));
            }
            Event::Exited { container, status, recorded } => {
                self.tell(container, Order::Exited { status, recorded });
            }
            Event::Disconnected => self.lose(),
        }
    }
}

/// The launcher, as far as one is known.
#[derive(Debug)]
pub(super) struct LauncherLink {
    launcher: Launcher,
    routes: Routes,
    current: Mutex<Option<Connection>>,
}

#[derive(Debug)]
struct Connection {
    client: Arc<LauncherClient>,
    alive: Arc<AtomicBool>,
}

impl LauncherLink {
    pub(super) fn new(
        program: PathBuf,
        socket: PathBuf,
        log: PathBuf,
        cgroup_procs: Vec<PathBuf>,
        routes: Routes,
    ) -> Self {
        // This process has raised its own limit, for connections; tasks get what it had before.
        let open_files = mezzo_http_server::open_files_at_start();
        let launcher = Launcher { program, socket, log: Some(log), cgroup_procs, open_files };
        LauncherLink { launcher, routes, current: Mutex::new(None) }
    }

    /// The connection, made anew, with a new launcher if need be, when there is none. A launcher of another build is upgraded in
    /// place. Blocks for milliseconds then.
    pub(super) fn client(&self) -> Result<Arc<LauncherClient>, SpawnError> {
        let mut current = lock(&self.current);
        if let Some(connection) = &*current
            && connection.alive.load(Ordering::Acquire)
        {
            return Ok(Arc::clone(&connection.client));
        }
        *current = None;
        let mut connection = self.connect()?;
        if let Some(connected) = self.upgrade(&connection.client) {
            connection = connected?;
        }
        let client = Arc::clone(&connection.client);
        *current = Some(connection);
        Ok(client)
    }

    /// Tries again where a launcher dies under its hands, or a child of a dead one still holds the lock.
    fn connect(&self) -> Result<Connection, SpawnError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.connect_once() {
                Err(e) => tracing::warn!(error = chain(&e), "no launcher yet; trying again"),
                connected => return connected,
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        self.connect_once()
    }

    fn connect_once(&self) -> Result<Connection, SpawnError> {
        let alive = Arc::new(AtomicBool::new(true));
        let on_event = {
            let (alive, routes) = (Arc::clone(&alive), self.routes.clone());
            move |event| {
                // Before the containers hear of it: none of them may use this connection again.
                if event == Event::Disconnected && alive.swap(false, Ordering::AcqRel) {
                    tracing::warn!("the connection to the launcher is gone");
                }
                routes.deliver(event);
            }
        };
        let (client, spawned) = self.launcher.connect_or_spawn(on_event)?;
        tracing::info!(spawned, socket = %self.launcher.socket.display(), "connected to the launcher");
        Ok(Connection { client: Arc::new(client), alive })
    }

    /// Has the launcher be of the build that lies beside the agent. Where it dies of that, there is a connection to a new one.
    fn upgrade(&self, client: &LauncherClient) -> Option<Result<Connection, SpawnError>> {
        match self.launcher.upgrade(client) {
            Ok(Upgrade::Current) => None,
            Ok(Upgrade::Done) => {
                tracing::info!(program = %self.launcher.program.display(), "upgraded the launcher in place");
                None
            }
            Err(e) if e.is_disconnected() => {
                tracing::warn!(
                    error = chain(&e),
                    "the launcher ended while it was upgraded; its containers go on"
                );
                Some(self.connect())
            }
            Err(e) => {
                tracing::warn!(
                    error = chain(&e),
                    "the launcher was not upgraded; the one that runs goes on"
                );
                None
            }
        }
    }

    /// The connection if there is one; makes none.
    pub(super) fn existing(&self) -> Option<Arc<LauncherClient>> {
        let current = lock(&self.current);
        let connection = current.as_ref()?;
        connection.alive.load(Ordering::Acquire).then(|| Arc::clone(&connection.client))
    }

    /// Has the launcher end, if there is one. It refuses while containers run, and goes on.
    pub(super) fn shut_down(&self) -> Result<(), ClientError> {
        let current = lock(&self.current);
        let Some(connection) = &*current else { return Ok(()) };
        // That the connection breaks is what is asked for.
        if !connection.alive.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        match connection.client.shutdown() {
            Err(e @ ClientError::Refused { .. }) => {
                connection.alive.store(true, Ordering::Release);
                Err(e)
            }
            // A connection that breaks now is what an end of the launcher looks like.
            _ => Ok(()),
        }
    }

    /// Gives the connection up; the launcher goes on.
    pub(super) fn close(&self) {
        let connection = lock(&self.current).take();
        if let Some(connection) = &connection {
            connection.alive.store(false, Ordering::Release);
        }
        drop(connection);
    }
}

/// `false` if the container does not listen any more. Signals beyond what waits already are dropped: it has enough to do.
pub(super) fn push(orders: &mpsc::Sender<Order>, order: Order) -> bool {
    if matches!(order, Order::Signal(_)) && orders.capacity() <= ORDERS_FOR_EVENTS {
        tracing::warn!(?order, "a container does not keep up with its signals");
        return !orders.is_closed();
    }
    // Nobody waits for a look that was not ordered.
    if matches!(order, Order::Check(_)) && orders.capacity() <= ORDERS_FOR_EVENTS {
        return false;
    }
    match orders.try_send(order) {
        Ok(()) => true,
        Err(mpsc::error::TrySendError::Closed(_)) => false,
        Err(mpsc::error::TrySendError::Full(order)) => {
            tracing::error!(?order, "a container does not take its orders");
            true
        }
    }
}

/// What these locks guard is whole after each statement, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
