//! A server on loopback. It says what its function says, and writes down every request that was read whole.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request as Asked, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::Seen;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// With what stands behind a question mark.
    pub path: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When it was there whole.
    pub at: Instant,
}

impl Request {
    /// `None` as well for a header that came twice: nobody can say which one counts.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone, Debug)]
pub enum Act {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The connection ends after the request was read.
    Drop,
    /// No answer ever.
    Hang,
}

impl Act {
    pub fn status(status: u16) -> Self {
        Self::answer(status, "")
    }

    pub fn answer(status: u16, body: impl Into<String>) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.into() }
    }

    /// `Retry-After` in seconds.
    pub fn later(status: u16, seconds: u32) -> Self {
        let headers = vec![("retry-after", seconds.to_string())];
        Self::Answer { status, headers, body: String::new() }
    }
}

type Decide = Arc<dyn Fn(&Request) -> Act + Send + Sync>;

/// Ends when it is dropped, with every connection.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    seen: Seen<Request>,
    runtime: Option<Runtime>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Without waiting, so that it may be dropped anywhere.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server {
    /// `decide` gets each request after it was written down.
    pub fn start(decide: impl Fn(&Request) -> Act + Send + Sync + 'static) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let (address, seen) = (listener.local_addr()?, Seen::default());
        let (log, decide): (_, Decide) = (seen.clone(), Arc::new(decide));
        runtime.spawn(async move {
            // A listener of our own, just made, is one.
            if let Ok(listener) = TcpListener::from_std(listener) {
                accept(listener, log, decide).await;
            }
        });
        Ok(Self { address, seen, runtime: Some(runtime) })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.all()
    }
}

async fn accept(listener: TcpListener, seen: Seen<Request>, decide: Decide) {
    let mut clients = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (seen, decide) = (seen.clone(), decide.clone());
        clients.spawn(async move {
            let service = service_fn(move |asked| answer(asked, seen.clone(), decide.clone()));
            // A client that is killed in mid-request is what some tests are about.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while clients.try_join_next().is_some() {}
    }
}

/// An error is what hyper ends the connection for.
async fn answer(
    asked: Asked<Incoming>,
    seen: Seen<Request>,
    decide: Decide,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = asked.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes().to_vec();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers.iter().map(|(n, v)| (n.to_string(), text(v.as_bytes()))).collect(),
        body,
        at: Instant::now(),
    };
    seen.push(request.clone());
    match decide(&request) {
        Act::Answer { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Full::new(Bytes::from(body))).map_err(std::io::Error::other)
        }
        Act::Drop => Err(std::io::Error::other("the script says so")),
        Act::Hang => {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
    }
}
