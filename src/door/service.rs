//! The HTTP service over hulls: workers, and the thread that accepts.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use actix_http::{HttpServiceBuilder, KeepAlive, Request, Response};
use actix_rt::{Arbiter, ArbiterHandle};
use actix_service::{Service, ServiceFactory, map_config};
use actix_web::App;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::http::{Method, Version, header};
use actix_web::web::{Data, ServiceConfig};
use bytes::BytesMut;
use tokio::sync::mpsc;

use super::ListenAddress;
use super::Settings;
use super::acceptor::{Acceptor, Connection, DoorCounters, Order, WORKER_QUEUE, poll_and_waker};
use super::answers::unavailable;
use super::bound::{Bound, Lent, Purpose};
use super::claim::{Claim, Departing, REFUSED_PATH, Watched};
use super::hull::{HeadLimits, Hull};
use super::io::Io;
use super::patrol::Patrol;
use super::portion::{Outgoing, Parcel, TooMany, WRITTEN_FROM};
use super::tls::Vestibule;
use crate::bouncer::throttle::suspect;
use crate::engine::broadcast::Peer;
use crate::engine::crew::Clock;
use crate::journal::{Journal, Visit};

/// Threads that speak HTTP. Listeners leave them at once, so they only greet, administer and are scraped.
const WORKERS: usize = 2;
/// How long an idle connection is kept for another request.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What becomes of an encoder that does not speak HTTP. It is a connection like any whose body is to come, with no answer yet.
pub type Greet = Rc<dyn Fn(Departing, Peer)>;

/// The open door.
#[derive(Debug)]
pub struct Door {
    stop: Arc<AtomicBool>,
    waker: Arc<mio::Waker>,
    thread: Option<JoinHandle<()>>,
    workers: Vec<Arbiter>,
    orders: std::sync::mpsc::Sender<Order>,
}

impl Door {
    /// Starts to accept whom `patrol` lets in. `configure` mounts the routes and `greeter` makes a host for other encoders, each once per worker; `seated`
    /// counts the listeners that the engine serves.
    ///
    /// # Errors
    /// When the system has no thread or epoll instance left.
    pub fn open(
        settings: &Settings,
        bound: Vec<Bound>,
        (counters, patrol): (Arc<DoorCounters>, &Arc<Patrol>),
        clock: Clock,
        seated: Box<dyn Fn() -> u64 + Send>,
        configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
        greeter: impl Fn() -> Greet + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let limits = HeadLimits { timeout: settings.header_timeout, size: settings.max_header_size.0 as usize };
        let (mut senders, outgoing) = (Vec::new(), Arc::new(Outgoing::default()));
        let workers = (0..WORKERS)
            .map(|_| {
                let (sender, connections) = mpsc::channel(WORKER_QUEUE);
                senders.push(sender);
                let arbiter = Arbiter::new();
                let (configure, greeter, counters) = (configure.clone(), greeter.clone(), Arc::clone(&counters));
                let (patrol, outgoing) = (Arc::clone(patrol), Arc::clone(&outgoing));
                arbiter.spawn_fn(move || {
                    let vestibule = Vestibule::new(limits.timeout, counters);
                    drop(actix_rt::spawn(work(connections, (vestibule, patrol, outgoing), limits, clock, configure, greeter())));
                });
                arbiter
            })
            .collect();
        let (poll, waker) = poll_and_waker()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (orders, theirs) = std::sync::mpsc::channel();
        let acceptor = Acceptor {
            bound,
            orders: theirs,
            workers: senders,
            counters,
            seated,
            max_connections: settings.max_connections,
            patrol: Arc::clone(patrol),
            clock,
            lent: false,
        };
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("door".into()).spawn(move || acceptor.run(poll, &told))?;
        let waker = Arc::new(waker);
        Ok(Self { stop, waker, thread: Some(thread), workers, orders })
    }

    /// Accepts at another place as well.
    pub fn listen(&self, bound: Bound) {
        self.order(Order::Open(bound));
    }

    /// Accepts at one place no more. Who came that way stays.
    pub fn leave(&self, address: &ListenAddress) {
        self.order(Order::Close(address.clone()));
    }

    /// Connections to an address become something else from now on, and begin with a PROXY header or not.
    pub fn repurpose(&self, address: ListenAddress, purpose: Purpose, proxied: bool) {
        self.order(Order::Repurpose(address, purpose, proxied));
    }

    /// From now on there may be so many connections of every kind.
    pub fn set_max_connections(&self, most: u64) {
        self.order(Order::Limit(most));
    }

    fn order(&self, order: Order) {
        // Both fail only if the thread is gone; then nobody accepts anything. Orders are few: they come from an operator's changes.
        let _ = self.orders.send(order);
        let _ = self.waker.wake();
    }

    /// The threads of the workers.
    pub fn workers(&self) -> impl Iterator<Item = ArbiterHandle> {
        self.workers.iter().map(Arbiter::handle)
    }

    /// By which the sockets can be lent, from any thread.
    pub fn lender(&self) -> Lender {
        Lender { orders: self.orders.clone(), waker: Arc::clone(&self.waker) }
    }

    /// Accepts nobody any more; who is inside stays.
    pub fn close(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.wake(); // it fails only if the thread is gone already
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been reported there
        }
    }
}

/// Lends the door's sockets to another process.
#[derive(Debug)]
pub struct Lender {
    orders: std::sync::mpsc::Sender<Order>,
    waker: Arc<mio::Waker>,
}

impl Lender {
    fn order(&self, order: Order) -> io::Result<()> {
        self.orders.send(order).map_err(|_| io::Error::other("the accepting thread is gone"))?;
        self.waker.wake()
    }

    /// The sockets, each with its address. From now on nobody is accepted here.
    ///
    /// # Errors
    /// When they are not to be had within this time, or there is no descriptor left for one. [`Self::resume`] in either case.
    pub fn lend(&self, most: Duration) -> io::Result<Vec<Lent>> {
        let (reply, lent) = std::sync::mpsc::channel();
        self.order(Order::Lend(reply))?;
        lent.recv_timeout(most).map_err(|_| io::Error::other("the accepting thread does not answer"))?
    }

    /// Nobody else has them: connections are accepted again.
    pub fn resume(&self) {
        let _ = self.order(Order::Resume); // nobody is left to accept
    }

    /// Another process has them for good.
    pub fn bequeath(&self) {
        let _ = self.order(Order::Bequeath); // as above
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close();
        for worker in &self.workers {
            worker.stop();
        }
    }
}

/// A request, for the access log.
struct Asked {
    journal: Data<Journal>,
    connection: Option<u64>,
    peer: String,
    at: SystemTime,
    began: Instant,
    method: Method,
    target: String,
    version: Version,
    referer: String,
    agent: String,
}

impl Asked {
    /// What is to be remembered of a request until it is answered; `None` where there is no log.
    fn of(request: &ServiceRequest, claim: Option<&Claim>) -> Option<Self> {
        let journal = request.app_data::<Data<Journal>>().filter(|journal| journal.is_on())?;
        let text =
            |name| request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default();
        Some(Self {
            journal: journal.clone(),
            connection: claim.map(Claim::connection),
            peer: claim.map(|claim| claim.peer().host()).unwrap_or_default(),
            at: SystemTime::now(),
            began: Instant::now(),
            method: request.method().clone(),
            target: request.path().to_owned(),
            version: request.version(),
            referer: text(header::REFERER),
            agent: text(header::USER_AGENT),
        })
    }

    fn answered<B: MessageBody>(self, answer: &ServiceResponse<B>) {
        let bytes = match answer.response().body().size() {
            BodySize::Sized(bytes) => Some(bytes),
            BodySize::None => Some(0),
            BodySize::Stream => None,
        };
        self.journal.note(&Visit {
            connection: self.connection,
            peer: &self.peer,
            at: self.at,
            method: self.method.as_str(),
            target: if self.target == REFUSED_PATH { "-" } else { &self.target },
            version: if self.version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
            status: answer.status().as_u16(),
            bytes,
            referer: &self.referer,
            agent: &self.agent,
            lasted: self.began.elapsed(),
            ..Visit::default()
        });
    }
}

/// This answer with what it counts as while it is on its way, or another: that there are too many large ones.
fn dispatched(answer: ServiceResponse, outgoing: &Arc<Outgoing>) -> (ServiceResponse, Option<Parcel>) {
    let bytes = if let BodySize::Sized(bytes) = answer.response().body().size() { bytes } else { 0 };
    let claim = answer.request().conn_data::<Claim>();
    let address = claim.and_then(|claim| if let Peer::Inet(address) = claim.peer() { Some(address.ip()) } else { None });
    match outgoing.take(suspect(address), bytes) {
        Ok(parcel) => (answer, parcel),
        Err(TooMany) => {
            let instead = unavailable("too many large answers are on their way: come again, and read what you ask for");
            (answer.into_response(instead), None)
        }
    }
}

/// The framework, as it is told to keep time and to write.
fn framework<T, S>() -> HttpServiceBuilder<T, S>
where
    S: ServiceFactory<Request, Config = ()>,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::InitError: fmt::Debug,
    <S::Service as Service<Request>>::Future: 'static,
{
    HttpServiceBuilder::default()
        .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
        .client_request_timeout(Duration::ZERO) // the hull has its own, with an answer
        .client_disconnect_timeout(Duration::from_secs(2))
        .h1_write_buffer_size(WRITTEN_FROM)
}

/// One worker: a service of its own, and a task per connection.
async fn work(
    mut connections: mpsc::Receiver<Connection>,
    (vestibule, patrol, outgoing): (Vestibule, Arc<Patrol>, Arc<Outgoing>),
    limits: HeadLimits,
    clock: Clock,
    configure: impl Fn(&mut ServiceConfig) + Clone + 'static,
    greet: Greet,
) {
    let app = App::new().configure(move |config| configure(config)).wrap_fn(move |request, service| {
        let outgoing = Arc::clone(&outgoing);
        let claim = request.conn_data::<Claim>().cloned();
        let serving = claim.as_ref().map(Claim::serving);
        let asked = Asked::of(&request, claim.as_ref());
        let answer = service.call(request);
        async move {
            let (answer, parcel) = dispatched(answer.await?.map_into_boxed_body(), &outgoing);
            if let Some(asked) = asked.filter(|_| !claim.as_ref().is_some_and(Claim::has_boarded)) {
                asked.answered(&answer);
            }
            Ok(answer.map_body(|_, body| Watched::new(body, parcel, serving)))
        }
    });
    let factory = framework()
        .on_connect_ext(|hull: &Hull, extensions| drop(extensions.insert(hull.claim())))
        .h1(map_config(app, |()| AppConfig::default()));
    let service = match factory.new_service(()).await {
        Ok(service) => Rc::new(service),
        Err(()) => return tracing::error!("the HTTP service cannot start"),
    };
    while let Some(connection) = connections.recv().await {
        if connection.shoutcast {
            if let Ok(io) = Io::new(connection.stream) {
                let (answer, begun) = (Vec::new(), BytesMut::new());
                greet(Departing { io, answer, begun, guest: connection.guest }, connection.peer);
            }
            continue;
        }
        let address = match connection.peer {
            Peer::Inet(address) => Some(address),
            Peer::Unix => None,
        };
        let (service, vestibule, patrol) = (Rc::clone(&service), vestibule.clone(), Arc::clone(&patrol));
        actix_rt::spawn(async move {
            let Ok(Some(hull)) = Hull::receive(connection, &vestibule, limits, clock, &patrol).await else { return };
            // A connection ends in many ways, most of them the peer's; the hand-over to the engine is an "error" too.
            if let Err(error) = service.call((hull, address)).await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use actix_http::StatusCode;
    use actix_service::fn_service;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::super::portion::PORTION;
    use super::*;

    /// A peer that asks once and takes all; how much it was given in all, and at once.
    struct Taker {
        asks: &'static [u8],
        given: Rc<Cell<(usize, usize)>>,
    }

    impl AsyncRead for Taker {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buf.put_slice(std::mem::take(&mut self.asks));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Taker {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let (all, most) = self.given.get();
            self.given.set((all + buf.len(), most.max(buf.len())));
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// So that each portion has a deadline of its own, and no connection keeps a large buffer.
    #[test]
    fn the_framework_is_never_ahead_of_its_peer_by_more_than_two_portions() {
        const ALL: usize = 20 * PORTION;
        actix_rt::System::new().block_on(async {
            let given = Rc::new(Cell::default());
            let taker = Taker { asks: b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", given: Rc::clone(&given) };
            let answer = || Response::with_body(StatusCode::OK, Watched::new(BoxBody::new(vec![0; ALL]), None, None));
            let service = framework().h1(fn_service(move |_: Request| std::future::ready(Ok::<_, Response<BoxBody>>(answer()))));
            let service = service.new_service(()).await.expect("a service");
            service.call((taker, None)).await.expect("answered");
            let (all, most) = given.get();
            assert!(all > ALL && (PORTION..=2 * PORTION).contains(&most), "{most} of {all} bytes at once");
        });
    }
}
