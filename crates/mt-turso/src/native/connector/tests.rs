use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer},
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// A server's TLS for `name`, and a client's that trusts nobody else.
fn certified(name: &str) -> (TlsAcceptor, Arc<ClientConfig>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let server = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client))
}

fn connector(service: &str, tls: Arc<ClientConfig>, timeout: Duration) -> Connector {
    Connector::new(Endpoint::new(service).unwrap(), tls, timeout)
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn call(connector: &mut Connector, url: &str) -> Result<Socket, ConnectError> {
    connector.call(url.parse().unwrap()).await
}

/// Says something and reads the answer to the end.
async fn talk(mut socket: Socket) -> String {
    socket.write_all(b"ping").await.unwrap();
    socket.flush().await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut said = [0; 4];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"ping");
    stream.write_all(b"pong").await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn plain_http_reaches_a_name_under_localhost() {
    let (listener, port) = listener().await;
    let server = tokio::spawn(async move { answer(listener.accept().await.unwrap().0).await });
    let url = format!("http://db-org.localhost:{port}");
    let mut connector = connector(&url, certified("localhost").1, PATIENCE);
    assert_eq!(talk(call(&mut connector, &url).await.unwrap()).await, "pong");
    server.await.unwrap();
}

#[tokio::test]
async fn tls_reaches_a_server_that_is_who_it_should_be() {
    let (listener, port) = listener().await;
    let (acceptor, tls) = certified("db-org.localhost");
    let server = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap().0;
        answer(acceptor.accept(stream).await.unwrap()).await;
        let stream = listener.accept().await.unwrap().0;
        assert!(acceptor.accept(stream).await.is_err(), "a stranger was believed");
    });
    let url = format!("https://db-org.localhost:{port}");
    let mut connector = connector(&url, tls, PATIENCE);
    assert_eq!(talk(call(&mut connector, &url).await.unwrap()).await, "pong");
    // The certificate is for the other name.
    let other = call(&mut connector, &format!("https://other-org.localhost:{port}")).await;
    assert!(matches!(other, Err(ConnectError::Io(_))));
    server.await.unwrap();
}

#[tokio::test]
async fn the_token_goes_to_no_other_service() {
    let tls = certified("localhost").1;
    let mut here = connector("https://db-org.turso.example", Arc::clone(&tls), SECOND);
    for url in ["https://db-org.other.example", "https://db-org.turso.example:8443"] {
        assert!(matches!(call(&mut here, url).await, Err(ConnectError::Elsewhere)), "{url}");
    }
    let plain = call(&mut here, "http://db-org.turso.example").await;
    assert!(matches!(plain, Err(ConnectError::Unusable(_))));
    let mut there = connector("http://db-org.localhost:1", tls, SECOND);
    let away = call(&mut there, "https://db-org.turso.example").await;
    assert!(matches!(away, Err(ConnectError::Elsewhere)));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let (listener, port) = listener().await;
    let url = format!("https://db-org.localhost:{port}");
    let limit = Duration::from_millis(50);
    let mut connector = connector(&url, certified("db-org.localhost").1, limit);
    // Its socket takes the connection by itself; nobody answers the handshake.
    assert!(matches!(call(&mut connector, &url).await, Err(ConnectError::Slow(_))));
    drop(listener);
}
