//! Running the firewall's own tools.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Directories of administration tools, which the path of an ordinary user lacks.
const ADMIN_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most output that is read: a ruleset of some hundred thousand rules.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;
const POLL: Duration = Duration::from_millis(5);

/// A child that is ended and reaped when dropped, however this goes on.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill(); // most often it has ended
        let _ = self.0.wait(); // what was waited for before is known, and asks the kernel nothing
    }
}

/// Runs a program with `input` and returns what it printed.
///
/// # Errors
/// It cannot be run (`NotFound` if it is not installed), takes longer than `timeout`, or fails; then the error says
/// what it complained about.
pub fn output(program: &str, arguments: &[&str], input: &str, timeout: Duration) -> io::Result<String> {
    let deadline = Instant::now() + timeout;
    let child = Command::new(program)
        .args(arguments)
        .env("PATH", ADMIN_PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut child = Reaped(child);
    let (Some(mut stdin), Some(out), Some(err)) =
        (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take())
    else {
        return Err(io::Error::other("pipes were asked for"));
    };
    // Rules of at most 64 VIPs: less than a pipe holds. Who does not read them says why on its way out.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
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
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
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
    written.map_err(|error| {
        io::Error::new(error.kind(), format!("{program} did not read its input: {error}"))
    })?;
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

    /// Says whether this process still has that child, be it a zombie.
    fn is_there(pid: &str) -> bool {
        std::path::Path::new("/proc").join(pid).exists()
    }

    #[test]
    fn who_does_not_read_leaves_no_zombie() {
        let input = "x".repeat(1 << 20); // more than a pipe holds
        let shell =
            |script: &str| output("sh", &["-c", script], &input, TIMEOUT).expect_err("input is left over");
        let failed = shell("exec 0<&-; echo $$ >&2; exit 3").to_string();
        let (why, pid) = failed.rsplit_once(' ').expect("a complaint");
        assert!(why.ends_with("3:") && !is_there(pid), "{failed}");
        let file = std::env::temp_dir().join(format!("baton-command-{}", std::process::id()));
        let unread = shell(&format!("exec 0<&-; echo $$ > {}", file.display()));
        let pid = std::fs::read_to_string(&file).expect("written");
        let _ = std::fs::remove_file(&file); // left behind, it does no harm
        assert_eq!(unread.kind(), io::ErrorKind::BrokenPipe, "{unread}");
        assert!(
            unread.to_string().contains("sh did not read its input") && !is_there(pid.trim()),
            "{unread}"
        );
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let late = output("sleep", &["5"], "", Duration::from_millis(50)).expect_err("too long");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }
}
