//! The page on a port of loopback, for a Prometheus on this machine: `GET /metrics` and nothing else.
//!
//! Any user of this machine can connect. So a few are served at once, each for a few seconds at most and one request long,
//! and the page is made for one after the other.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;

use super::Metrics;

/// Prometheus' text format.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const WORDS: &str = "text/plain; charset=utf-8";

/// Readers served at once; others wait in the kernel's queue.
const READERS: usize = 4;
/// Until the whole request is there.
const REQUEST: Duration = Duration::from_secs(2);
/// Until the reader has the whole answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request, the least that hyper allows.
const REQUEST_LIMIT: usize = 8192;
const PAUSE: Duration = Duration::from_millis(100);

/// The port in service. Dropped, it is closed.
pub struct Port {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Port {
    pub fn open(runtime: &Handle, address: SocketAddr, metrics: Arc<Metrics>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        Ok(Self { address: listener.local_addr()?, task: runtime.spawn(accept(listener, metrics)) })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The one who makes the page.
struct Desk {
    metrics: Arc<Metrics>,
    one: Mutex<()>,
}

async fn accept(listener: TcpListener, metrics: Arc<Metrics>) {
    let places = Arc::new(Semaphore::new(READERS));
    let desk = Arc::new(Desk { metrics, one: Mutex::default() });
    // Nobody closes the semaphore.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = desk.clone();
                tokio::spawn(async move {
                    let _place = place;
                    // A reader that goes away or takes too long has only itself to blame.
                    let _ = tokio::time::timeout(PATIENCE, converse(stream, desk)).await;
                });
            }
            Err(error) => {
                tracing::warn!(
                    "a reader of the metrics could not be answered ({error}); raise the limit on open files (LimitNOFILE=)"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, desk: Arc<Desk>) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(answer(&request, &desk).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .max_buf_size(REQUEST_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(request: &Request<Incoming>, desk: &Desk) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return said(StatusCode::NOT_FOUND, WORDS, "the metrics are at /metrics\n".into());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = said(StatusCode::METHOD_NOT_ALLOWED, WORDS, "the metrics can only be read\n".into());
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let _one = desk.one.lock().await;
    let metrics = desk.metrics.clone();
    // The database and the kernel's counters are read, which no async thread should wait for.
    let made = tokio::task::spawn_blocking(move || metrics.page().and_then(super::Page::text)).await;
    match made {
        Ok(Ok(text)) => said(StatusCode::OK, TEXT, text),
        Ok(Err(sentence)) => said(StatusCode::SERVICE_UNAVAILABLE, WORDS, format!("{sentence}\n")),
        Err(_) => {
            said(StatusCode::INTERNAL_SERVER_ERROR, WORDS, "reading them has failed; report this\n".into())
        }
    }
}

fn said(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
