//! Running the firewall's own tools.

use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Directories of administration tools, which the path of an ordinary user lacks.
const ADMIN_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most output that is read: a ruleset of some hundred thousand rules.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;
const POLL: Duration = Duration::from_millis(5);

/// Runs a program with `input` and returns what it printed.
///
/// # Errors
/// It cannot be run (`NotFound` if it is not installed), takes longer than `timeout`, or fails; then the error says
/// what it complained about.
pub fn output(program: &str, arguments: &[&str], input: &str, timeout: Duration) -> io::Result<String> {
    let deadline = Instant::now() + timeout;
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", ADMIN_PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?; // rules of at most 64 VIPs: less than a pipe holds
    }
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("pipes were asked for"));
    };
    // Read beside the wait: who prints more than a pipe holds would never end.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        out.take(OUTPUT_BYTES_MAX).read_to_end(&mut text).map(|_| text)
    });
    let complaints = std::thread::spawn(move || {
        let mut text = String::new();
        err.take(4096).read_to_string(&mut text).map(|_| text)
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{program} took over {timeout:?}")));
        }
        std::thread::sleep(POLL);
    };
    let ended = |_| io::Error::other("a reading thread panicked");
    let text = reader.join().map_err(ended)??;
    if !status.success() {
        let complaint = complaints.join().map_err(ended)?.unwrap_or_default();
        return Err(io::Error::other(format!("{program}: {status}: {}", complaint.trim())));
    }
    String::from_utf8(text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn output_and_complaints_come_back() {
        assert_eq!(output("cat", &[], "rules", TIMEOUT).expect("cat"), "rules");
        let missing = output("no-such-program", &[], "", TIMEOUT).expect_err("nothing to run");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let failed = output("sh", &["-c", "echo no >&2; exit 3"], "", TIMEOUT).expect_err("exit 3");
        assert!(failed.to_string().contains("3: no"), "{failed}");
        let long = output("sh", &["-c", "head -c 200000 /dev/zero"], "", TIMEOUT).expect("more than a pipe");
        assert_eq!(long.len(), 200_000);
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let late = output("sleep", &["5"], "", Duration::from_millis(50)).expect_err("too long");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }
}
