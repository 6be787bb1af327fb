//! HTTP clients that speak to this machine only and without TLS.

use std::sync::Once;

use reqwest::{Client, ClientBuilder};

/// Begins to make a client for servers of this machine.
///
/// It works whichever of reqwest's TLS features the rest of a program turns on: with rustls and no
/// provider of cryptography, even a client that never uses TLS wants one.
pub fn client() -> ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that there is one already.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
    Client::builder().no_proxy()
}
