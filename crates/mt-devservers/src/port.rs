//! Free ports of the loopback interface, for servers that want to be told theirs.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{Ipv4Addr, TcpListener},
};

use anyhow::bail;

/// Below the ports that systems give to outgoing connections (Linux: from 32768), so that a port
/// is still ours when a server comes back after it was killed.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How often another port is tried. More are never taken by chance.
const ATTEMPTS: usize = 200;

/// Two ports on which nobody listens at this moment.
///
/// # Errors
/// None was found.
pub(crate) fn free_pair() -> anyhow::Result<[u16; 2]> {
    // Both are held while they are chosen, so that they differ.
    let (first, _held) = free()?;
    let (second, _also_held) = free()?;
    Ok([first, second])
}

fn free() -> anyhow::Result<(u16, TcpListener)> {
    for _ in 0..ATTEMPTS {
        let port = any_port();
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok((port, listener));
        }
    }
    bail!("no free port between {} and {} of 127.0.0.1", PORTS.start, PORTS.end)
}

fn any_port() -> u16 {
    // Every `RandomState` has keys of its own.
    let random = RandomState::new().hash_one(());
    let span = u64::from(PORTS.end - PORTS.start);
    let offset = u16::try_from(random % span).unwrap_or_default();
    PORTS.start + offset
}
