//! A payment gateway behind HTTP that answers as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use reqwest::Url;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the stub does with the next request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answers with a status and a body.
    Answer(u16, String),
    /// Reads the request and stays silent.
    Silence,
    /// Reads the request and closes the connection.
    HangUp,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) body: String,
}

#[derive(Default)]
struct Script {
    acts: VecDeque<Act>,
    requests: Vec<Request>,
}

/// The stub at work. Ends when it is dropped.
pub(crate) struct Stub {
    script: Arc<Mutex<Script>>,
    url: Url,
    task: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    /// Does these things, one per request; then answers 200.
    pub(crate) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let script = Arc::new(Mutex::new(Script { acts: acts.into_iter().collect(), ..Script::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/", listener.local_addr().unwrap()).parse().unwrap();
        let scripted = script.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, scripted.clone()));
            }
        });
        Self { script, url, task }
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.script.lock().unwrap().requests.clone()
    }
}

pub(crate) fn answer(status: u16) -> Act {
    Act::Answer(status, format!(r#"{{"status":{status}}}"#))
}

async fn serve(stream: TcpStream, script: Arc<Mutex<Script>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let act = {
            let mut script = script.lock().unwrap();
            script.requests.push(request);
            script.acts.pop_front().unwrap_or_else(|| answer(200))
        };
        match act {
            Act::Answer(status, body) => {
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
                if stream.write_all((head + &body).as_bytes()).await.is_err() {
                    return;
                }
            }
            Act::Silence => std::future::pending().await,
            Act::HangUp => return,
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let (mut first, mut key, mut length) = (String::new(), String::new(), 0);
    stream.read_line(&mut first).await.ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => key = value.to_owned(),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    Some(Request { path, key, body: String::from_utf8(body).ok()? })
}
