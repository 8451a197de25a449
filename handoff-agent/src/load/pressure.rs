//! Pressure stall information: how much time tasks lost to waiting for something.

/// Reads `some avg10` of a pressure file, in thousandths of the last ten seconds.
pub(super) fn some_avg10_permille(text: &str) -> Option<u16> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent = line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
    let (whole, hundredths) = percent.split_once('.')?;
    if hundredths.len() != 2 {
        return None;
    }
    let hundredths: u32 = hundredths.parse().ok()?;
    let permille = whole.parse::<u32>().ok()?.checked_mul(10)?.checked_add(hundredths / 10)?;
    u16::try_from(permille.min(1_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_that_of_some_task_over_ten_seconds() {
        let text = "some avg10=12.39 avg60=3.00 avg300=0.99 total=157656722\n\
                    full avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some_avg10_permille(text), Some(123));
        assert_eq!(some_avg10_permille("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"), Some(0));
        assert_eq!(some_avg10_permille("some avg10=100.00 avg60=1.00"), Some(1_000));
    }

    #[test]
    fn other_texts_tell_of_no_pressure() {
        for text in [
            "",
            "full avg10=1.00 avg60=0.00 avg300=0.00 total=0\n",
            "some avg60=1.00",
            "some avg10=",
            "some avg10=1",
            "some avg10=1.0",
            "some avg10=-1.00",
            "some avg10=nan",
            "some avg10=99999999999.00",
        ] {
            assert_eq!(some_avg10_permille(text), None, "{text}");
        }
    }
}
