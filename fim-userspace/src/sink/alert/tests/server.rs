//! A server on loopback that follows a script and writes down what it was sent.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

/// What the server does with one request.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Answer(&'static str),
    /// Reads the request, then closes without a word.
    Drop,
}

pub const OK: Act = Act::Answer("HTTP/1.1 204 No Content\r\n\r\n");

#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|l| l.split_once(": "));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn id(&self) -> &str {
        self.header("X-Fim-Event-Id").expect("an id")
    }
}

/// Follows the script and then accepts everything.
pub struct Server {
    pub url: reqwest::Url,
    seen: Arc<Mutex<Vec<Request>>>,
    pub task: JoinHandle<()>,
}

impl Server {
    pub async fn start(script: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let url = format!("http://127.0.0.1:{port}/hook/token").parse().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<_>>()));
        let task = tokio::spawn(async move {
            // They end with the server.
            let mut clients = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                clients.spawn(serve(stream, log.clone(), script.clone()));
            }
        });
        Self { url, seen, task }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("log").clone()
    }

    pub async fn wait(&self, count: usize) -> Vec<Request> {
        until(|| self.seen().len() >= count, || format!("{} of {count} requests", self.seen().len())).await;
        self.seen()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Vec<Request>>>, script: Arc<Mutex<VecDeque<Act>>>) {
    while let Some(request) = read_request(&mut stream).await {
        log.lock().expect("log").push(request);
        let act = script.lock().expect("script").pop_front().unwrap_or(OK);
        match act {
            Act::Answer(text) => stream.write_all(text.as_bytes()).await.expect("answered"),
            Act::Drop => break,
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&part[..n]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
    let mut request = Request { head, body: bytes[end..].to_vec(), at: Instant::now() };
    let length: usize = request.header("content-length").expect("a length").parse().expect("a number");
    let missing = length - request.body.len();
    let mut rest = vec![0; missing];
    stream.read_exact(&mut rest).await.ok()?;
    request.body.extend(rest);
    Some(request)
}
