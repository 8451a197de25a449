//! Probes of the local servers: over loopback, where no handoff and no filter of the data network is met.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::config::{HealthProbe, ServedVip};
use crate::status::Status;

/// Longest head of a response that is read.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most headers a response may have.
const HEADERS_MAX: usize = 64;

/// Why a server is not well.
#[derive(Debug, Error)]
pub enum Unwell {
    /// It does not take the connection, or breaks it.
    #[error(transparent)]
    Connection(#[from] io::Error),
    /// It does not answer in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It does not speak HTTP.
    #[error("the answer is not HTTP: {0}")]
    Form(httparse::Error),
    /// The head of its answer does not end.
    #[error("the head of the answer is longer than {HEAD_BYTES_MAX} bytes")]
    Long,
    /// It says that it is not well.
    #[error("status {0}")]
    Status(u16),
}

/// Probes a server once.
///
/// # Errors
/// Says why it is not well.
pub fn probe(server: SocketAddr, how: &HealthProbe, timeout: Duration) -> Result<(), Unwell> {
    let deadline = Instant::now() + timeout;
    let late = |error: io::Error| match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Unwell::Late(timeout),
        _ => Unwell::Connection(error),
    };
    let mut stream = TcpStream::connect_timeout(&server, timeout).map_err(late)?;
    // Closing with a RST leaves no TIME_WAIT behind, seven times a second.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).map_err(io::Error::from)?;
    let HealthProbe::Http { path } = how else { return Ok(()) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: baton-agent\r\nConnection: close\r\n\r\n"
    );
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(request.as_bytes()).map_err(late)?;
    let mut head = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unwell::Late(timeout));
        }
        stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 2048];
        let read = stream.read(&mut piece).map_err(late)?;
        head.extend_from_slice(&piece[..read]);
        if let Some(status) = status_of(&head).map_err(Unwell::Form)? {
            return if (200..400).contains(&status) { Ok(()) } else { Err(Unwell::Status(status)) };
        }
        if read == 0 {
            return Err(Unwell::Connection(ErrorKind::UnexpectedEof.into()));
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(Unwell::Long);
        }
    }
}

/// Returns the status of a response whose head is complete.
fn status_of(head: &[u8]) -> Result<Option<u16>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    Ok(if response.parse(head)?.is_complete() { response.code } else { None })
}

/// Probes one VIP's server again and again, until the other end of `stop` is dropped.
pub fn watch(vip: &ServedVip, interval: Duration, timeout: Duration, status: &Status, stop: &Receiver<()>) {
    let served = vip.vip();
    let server = SocketAddr::from((vip.address, vip.port));
    loop {
        let begun = Instant::now();
        let why_not = probe(server, &vip.health, timeout).err().map(|why| why.to_string());
        if status.set_health(served, why_not.clone()) {
            match why_not {
                None => tracing::info!(vip = %served, "the local server is well"),
                Some(why) => tracing::warn!(vip = %served, why, "the local server is not well"),
            }
        }
        let pause = interval.saturating_sub(begun.elapsed());
        if stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const TIMEOUT: Duration = Duration::from_millis(300);

    /// Answers one connection with `response` and keeps it open for `hold`.
    fn server(response: &'static [u8], hold: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a probe");
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap_or(0);
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
            for piece in response.chunks(7) {
                let _ = stream.write_all(piece); // the probe may have seen enough
            }
            std::thread::sleep(hold);
        });
        address
    }

    fn http(response: &'static [u8]) -> Result<(), Unwell> {
        let how = HealthProbe::Http { path: "/healthz".into() };
        probe(server(response, Duration::ZERO), &how, TIMEOUT)
    }

    #[test]
    fn a_status_below_400_is_well() {
        assert!(http(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok());
        assert!(http(b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n").is_ok());
        assert!(matches!(http(b"HTTP/1.1 503 Busy\r\n\r\n"), Err(Unwell::Status(503))));
        assert!(matches!(http(b"HTTP/1.1 404 No\r\n\r\n"), Err(Unwell::Status(404))));
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        assert!(matches!(http(b"SSH-2.0-OpenSSH\r\n\r\n"), Err(Unwell::Form(_))));
        assert!(matches!(http(b"HTTP/1.1 200 OK\r\n"), Err(Unwell::Connection(_))));
        let how = HealthProbe::Http { path: "/healthz".into() };
        let silent = server(b"", Duration::from_secs(2));
        assert!(matches!(probe(silent, &how, Duration::from_millis(50)), Err(Unwell::Late(_))));
    }

    #[test]
    fn a_tcp_probe_wants_a_listener_only() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        assert!(probe(address, &HealthProbe::Tcp, TIMEOUT).is_ok());
        drop(listener);
        assert!(matches!(probe(address, &HealthProbe::Tcp, TIMEOUT), Err(Unwell::Connection(_))));
    }
}
