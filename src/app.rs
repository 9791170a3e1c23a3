//! The composition root: builds every room of the daemon, starts them in order, stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::admin::{Admin, Page, redis_ping};
use crate::config::{Config, DeliveryKind};
use crate::current::Current;
use crate::delivery::{self, Delivery};
use crate::disk;
use crate::enroll::EnrollmentClient;
use crate::failure::{Failure, FailureKind, Result};
use crate::gate::Gate;
use crate::hls::Engine;
use crate::hook::{Credentials, Hook};
use crate::http::MediaClient;
use crate::logging::Level;
use crate::logins::{Login, Logins};
use crate::media::{CourseDownload, StreamDownload};
use crate::metrics::Metrics;
use crate::orders::Orders;
use crate::queue::Queue;
use crate::redis_client::{self, Commands};
use crate::reload::{self, Reload, Rooms};
use crate::remux::Remux;
use crate::report::{Events, FinalizeClient};
use crate::resolver::Resolver;
use crate::serve::{serve, serve_with};
use crate::sharing::SharedDownloads;
use crate::store::{self, TaskStore};
use crate::tasks::Tasks;
use crate::volumes::Volumes;
use crate::worker::{self, Pipeline};

/// How long to wait between two tries to reach Redis at start.
const START_RETRY: Duration = Duration::from_secs(1);

/// How long the end of a job waits for a task store that does not answer, in its slot.
const STORE_PATIENCE: Duration = Duration::from_secs(60);

/// How long orders that the hook has accepted may go on after the stop.
const HOOK_LIMIT: Duration = Duration::from_secs(20);

/// Connections that wait until the hook takes them.
const BACKLOG: u32 = 1024;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// What makes it impossible to start; once it runs, trouble is handled and logged where it happens.
pub async fn run(reload: Reload, level: Level) -> Result<()> {
    let (config, reload) = (reload.config(), Arc::new(reload));
    let metrics = Metrics::new();
    let stop = CancellationToken::new();
    let stop_now = CancellationToken::new();
    // Why no jobs are taken yet.
    let (hindrance, hindered) = watch::channel(Some("the instance is still starting".to_owned()));
    // The admin port answers until everything else has stopped.
    let end = CancellationToken::new();
    let signals = listen_for_signals(stop.clone(), stop_now.clone())?;
    // From now on it ends nobody; one that comes before the rooms are there is handled when they are.
    let hangups = signal(SignalKind::hangup()).map_err(no_signals)?;

    let logins = Arc::new(Logins::open(&config)?);
    for empty in logins.empty_files() {
        tracing::warn!("the cookies file {} holds no cookie", empty.display());
    }
    let connection = redis_client::commands(&config.redis)?;
    let store: Arc<dyn TaskStore> = store::open(&config)?;
    let admin = match config.admin.listen {
        Some(address) => {
            let listener = bind("admin.listen", address).await?;
            let ping = redis_ping(connection.clone());
            let admin = Admin::new(
                metrics.clone(),
                logins.clone(),
                config.staging.directory.clone(),
                ping,
                hindered.clone(),
                stop.clone(),
            );
            let page = Page::new(
                &config,
                connection.clone(),
                store.clone(),
                metrics.clone(),
                hindered.clone(),
                stop.clone(),
                end.clone(),
            )?;
            let preview = page.protect(reload::router(reload.clone()));
            let router = Admin::router(admin).merge(Page::router(page)).merge(preview);
            Some(tokio::spawn(serve(listener, router, end.clone())))
        }
        None => None,
    };
    let Some(queue) = connect(&config, &metrics, &stop).await? else { return Ok(()) };
    for warning in queue.server_warnings().await.unwrap_or_default() {
        tracing::warn!("{warning}");
    }
    let greeting = tokio::spawn(store::greet(store.clone()));
    let pipeline = Arc::new(build_pipeline(&config, &queue, store.clone(), logins.resolver.clone(), &metrics).await?);
    let (delivery, volumes) = (pipeline.delivery.clone(), pipeline.volumes.clone());

    let hook = match config.hook.listen {
        Some(address) => Some(start_hook(&config, address, connection, store, &logins, &metrics, &stop).await?),
        None => None,
    };
    let limits = worker::Limits::new(&config.worker);
    let rooms = Rooms {
        level,
        limits: limits.clone(),
        pipeline: pipeline.clone(),
        hook: hook.as_ref().map(|hook| hook.hook.clone()),
        logins,
    };
    let reloads = reload_on_hangup(hangups, reload, rooms);

    let watchdog = notify_ready(&queue, &config);
    // The hook takes orders whatever the destination says.
    let look = take_when_deliverable(delivery, volumes, hindrance, &queue, &config);
    let notices = AbortOnDropHandle::new(tokio::spawn(pipeline.clone().tell_of_failures(stop.clone())));
    let worked = worker::run(queue, limits, pipeline, metrics, hindered, stop.clone(), stop_now).await;

    // A call that is cut off is made again by whoever comes first.
    drop((notices, look));
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    stop.cancel();
    if let Some(RunningHook { hook, orders, server, working }) = hook {
        join("hook", server).await;
        // It ends with the stop.
        let _ = working.await;
        // Orders go on without their caller.
        let drained = async { tokio::join!(hook.drain(), orders.drain()) };
        if tokio::time::timeout(HOOK_LIMIT, drained).await.is_err() {
            tracing::info!("orders are still under way: another instance, or the next start, goes on with them");
        }
    }
    reloads.abort();
    end.cancel();
    if let Some(admin) = admin {
        join("admin", admin).await;
    }
    signals.abort();
    watchdog.abort();
    greeting.abort();
    tracing::info!("the daemon has ended");
    worked
}

/// The hook and what works behind it.
struct RunningHook {
    hook: Arc<Hook>,
    orders: Arc<Orders>,
    server: JoinHandle<std::io::Result<()>>,
    working: JoinHandle<()>,
}

async fn start_hook(
    config: &Config,
    address: SocketAddr,
    commands: Commands,
    store: Arc<dyn TaskStore>,
    logins: &Logins,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> Result<RunningHook> {
    let settings = &config.hook;
    let credentials = Credentials::read(settings);
    let credentials = credentials.map_err(|reason| Failure::new(FailureKind::Internal, reason))?;
    if !settings.authenticates() {
        tracing::warn!(%address, "the hook asks nobody who it is: every user of this host can order");
    }
    let enrollment =
        EnrollmentClient::new(&config.enrollment, &config.http, logins.enrollment.clone(), metrics.clone())?;
    let tasks = Tasks::new(store.clone(), commands.clone(), &config.queue.list);
    let orders = Orders::open(
        commands.clone(),
        &config.queue.list,
        settings.keep_orders,
        config.staging.directory.join(".orders"),
        enrollment.clone(),
        store,
        metrics.clone(),
    )
    .await?;
    let hook = Hook::new(
        orders.clone(),
        tasks,
        enrollment,
        credentials,
        commands,
        &config.queue.list,
        settings,
        metrics.clone(),
        stop.clone(),
    );
    let listener = listen_together("hook.listen", address)?;
    let router = Hook::router(hook.clone());
    let server = tokio::spawn(serve_with(hook.connections(), listener, router, stop.clone()));
    let working = tokio::spawn(orders.clone().keep_working(stop.clone()));
    Ok(RunningHook { hook, orders, server, working })
}

/// SIGHUP: the configuration is read again.
fn reload_on_hangup(mut hangups: Signal, reload: Arc<Reload>, rooms: Rooms) -> JoinHandle<()> {
    let rooms = Arc::new(rooms);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let (reload, rooms) = (reload.clone(), rooms.clone());
            // It reads files.
            if let Err(panic) = tokio::task::spawn_blocking(move || reload.run(&rooms)).await {
                tracing::error!(%panic, "the reload ended in a panic: this is a defect");
            }
        }
    })
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("cannot listen for signals: {error}"))
}

async fn build_pipeline(
    config: &Config,
    queue: &Queue,
    store: Arc<dyn TaskStore>,
    login: Arc<Login>,
    metrics: &Arc<Metrics>,
) -> Result<Pipeline> {
    let remux = Remux::detect(&config.remux).await;
    match &remux {
        Some(remux) => tracing::info!(version = remux.version(), "ffmpeg found"),
        None => tracing::warn!("ffmpeg is not on this host: lectures are kept as .ts"),
    }
    let staging = &config.staging.directory;
    let failed = |error| Failure::disk(format_args!("looking at {}", staging.display()), error);
    let staging = disk::no_links::real(staging).map_err(failed)?;
    let sharing = config.staging.share_downloads.then(|| {
        let container = remux.as_ref().map(|_| config.remux.container);
        SharedDownloads::new(&staging, format!("{} {container:?}", config.hls.quality))
    });
    let delivery = Delivery::new(&config.delivery);
    let engine = Arc::new(Engine::new(config, metrics.clone())?);
    let streams = StreamDownload { engine, remux, container: config.remux.container };
    let resolver = Arc::new(Resolver::new(&config.resolver, &config.http, login.clone())?);
    let commands = redis_client::commands(&config.redis)?;
    Ok(Pipeline {
        gate: Gate::new(store.clone(), config.gate.clone()).told_by(commands.clone()),
        store,
        store_patience: STORE_PATIENCE,
        courses: CourseDownload {
            streams,
            client: MediaClient::new(&config.http)?,
            files: config.files,
            resolver: resolver.clone(),
            metrics: metrics.clone(),
        },
        sharing,
        resolver,
        cookies: login.cookies.clone(),
        delivery,
        finalize: Current::new(FinalizeClient::new(&config.report, &config.http)?),
        events: Events::new(commands),
        queue: queue.clone(),
        staging,
        volumes: Arc::new(volumes(config)),
        max_attempts: config.queue.max_attempts,
        metrics: metrics.clone(),
    })
}

/// Lets jobs be taken as soon as their courses can be delivered, and as long as there is room for them.
fn take_when_deliverable(
    delivery: Delivery,
    volumes: Arc<Volumes>,
    hindrance: watch::Sender<Option<String>>,
    queue: &Queue,
    config: &Config,
) -> AbortOnDropHandle<()> {
    let (queue, redis, jobs) = (queue.clone(), config.redis.shown(), config.worker.jobs);
    AbortOnDropHandle::new(tokio::spawn(async move {
        delivery::greet(&delivery, &hindrance).await;
        let watching = volumes.watch(&hindrance);
        let mut hindered = hindrance.subscribe();
        let ready = async {
            // Cannot fail: the sender is here.
            let _ = hindered.wait_for(Option::is_none).await;
            tracing::info!(
                version = env!("CARGO_PKG_VERSION"),
                instance = queue.instance(),
                redis,
                list = queue.settings().list,
                jobs,
                "ready: taking jobs"
            );
        };
        tokio::join!(watching, ready);
    }))
}

/// Registers with Redis, however long it is away. `None` when told to stop before that.
async fn connect(config: &Config, metrics: &Arc<Metrics>, stop: &CancellationToken) -> Result<Option<Queue>> {
    let mut told = false;
    loop {
        let outcomes = config.staging.directory.join(".outcomes");
        let connected =
            Queue::connect(&config.redis, &config.queue, &config.worker.instance, outcomes, metrics.clone());
        match connected.await {
            Ok(queue) => return Ok(Some(queue)),
            Err(failure) if !std::mem::replace(&mut told, true) => {
                tracing::error!(
                    kind = failure.kind.name(),
                    redis = config.redis.shown(),
                    "{failure}; trying until it is there"
                );
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(START_RETRY) => {}
        }
    }
}

fn volumes(config: &Config) -> Volumes {
    let delivery = (config.delivery.kind == DeliveryKind::Folder).then(|| config.delivery.directory.clone());
    let directories = std::iter::once(config.staging.directory.clone()).chain(delivery);
    Volumes::new(directories.collect(), config.staging.min_free_bytes)
}

async fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| not_bound(setting, address, &error))
}

/// Listens at an address where other instances of the same user may listen too: the kernel gives each
/// connection to one of them.
fn listen_together(setting: &str, address: SocketAddr) -> Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| not_bound(setting, address, &error))
}

fn not_bound(setting: &str, address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("{setting} = {address}: {error}"))
}

/// SIGTERM or SIGINT: stop taking and drain. A second one: hand everything back at once.
fn listen_for_signals(stop: CancellationToken, stop_now: CancellationToken) -> Result<JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    Ok(tokio::spawn(async move {
        for token in [stop, stop_now] {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::info!(at_once = token.is_cancelled(), "told to stop");
            token.cancel();
        }
    }))
}

/// Tells systemd that the daemon is ready, and from then on that it is alive: only while the queue's
/// own loops have made progress, so that a hang is seen as one.
fn notify_ready(queue: &Queue, config: &Config) -> JoinHandle<()> {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let queue = queue.clone();
    // A blocking take and a sweep against a silent server may each last this long and be well.
    let patience = (config.queue.block + config.queue.sweep) * 3 + Duration::from_secs(15);
    tokio::spawn(async move {
        let Some(limit) = sd_notify::watchdog_enabled() else { return };
        let mut ticks = tokio::time::interval(limit / 3);
        loop {
            ticks.tick().await;
            if queue.silence() < patience {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    })
}

async fn join(name: &str, task: JoinHandle<std::io::Result<()>>) {
    match task.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("the {name} server failed: {error}"),
        Err(error) => tracing::error!("the {name} server ended early: {error}"),
    }
}
