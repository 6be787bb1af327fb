//! What the client keeps open.

use std::time::Duration;

use futures_util::future::join_all;
use mt_remote::{HttpSettings, http_client};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const BURST: usize = 20;

/// Reads a request without a body.
async fn request(socket: &mut TcpStream) {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(socket.read_u8().await.unwrap());
    }
}

/// Every tenant is a host of its own: what is kept of each adds up.
#[tokio::test]
async fn connections_that_nobody_uses_are_closed() {
    let limit = Duration::from_secs(60);
    let client = http_client(HttpSettings { connect_timeout: limit, timeout: limit }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = join_all((0..BURST).map(|_| client.get(&url).send()));
    let server = async {
        let mut sockets = Vec::new();
        // None is answered before all have come, so each has a connection of its own.
        for _ in 0..BURST {
            let (mut socket, _) = listener.accept().await.unwrap();
            request(&mut socket).await;
            sockets.push(socket);
        }
        for socket in &mut sockets {
            socket.write_all(ANSWER).await.unwrap();
        }
        sockets
    };
    let (answers, sockets) = tokio::join!(requests, server);
    for answer in answers {
        answer.unwrap().bytes().await.unwrap();
    }

    // From here on time passes only while nothing else happens.
    tokio::time::pause();
    let begun = Instant::now();
    let closed = join_all(sockets.into_iter().map(|mut socket| async move {
        assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
        begun.elapsed()
    }));
    let mut closed = closed.await;
    closed.sort();
    let at_once = closed.iter().filter(|after| **after < Duration::from_secs(5)).count();
    assert_eq!(at_once, BURST - 8, "{closed:?}");
    assert!(closed[BURST - 1] < Duration::from_secs(30), "{closed:?}");
}
