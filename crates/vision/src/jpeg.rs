//! Whether a JPEG file is whole (ITU-T T.81, annex B).

const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;

/// Walks the segments of a JPEG file to its end-of-image mark. Bytes behind it do not matter.
pub(crate) fn has_end_of_image(bytes: &[u8]) -> bool {
    // Behind the start-of-image mark.
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            END_OF_IMAGE => return true,
            // Marks without a segment.
            0x01 | 0xD0..=0xD8 => {}
            _ => {
                let Some(&[high, low]) = bytes.get(at..at + 2).and_then(|two| two.first_chunk())
                else {
                    return false;
                };
                at += usize::from(u16::from_be_bytes([high, low])).max(2);
                if marker == START_OF_SCAN {
                    skip_scan(bytes, &mut at);
                }
            }
        }
    }
    false
}

/// The next mark, `at` behind it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let start = *at + bytes.get(*at..)?.iter().position(|&byte| byte == 0xFF)?;
        let marker = start + bytes[start..].iter().position(|&byte| byte != 0xFF)?;
        *at = marker + 1;
        if bytes[marker] != 0 {
            return Some(bytes[marker]);
        }
    }
}

/// Passes over entropy-coded data, in which 0xFF is followed by 0 or is a restart mark.
fn skip_scan(bytes: &[u8], at: &mut usize) {
    while let Some(&[first, second]) = bytes.get(*at..*at + 2).and_then(|two| two.first_chunk()) {
        if first == 0xFF && second != 0 && second != 0xFF && !(0xD0..=0xD7).contains(&second) {
            return;
        }
        *at += 1;
    }
    *at = bytes.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_mark_counts() {
        let comment = [0xFF, 0xFE, 0, 4, 0xFF, END_OF_IMAGE];
        let scan = [0xFF, START_OF_SCAN, 0, 2, 1, 0xFF, 0, 0xFF, 0xD3, 9];
        let whole = [&[0xFF, 0xD8][..], &comment, &scan, &[0xFF, END_OF_IMAGE, 7]].concat();
        assert!(has_end_of_image(&whole));
        for cut in 0..whole.len() - 1 {
            assert!(!has_end_of_image(&whole[..cut]), "cut at {cut}");
        }
    }
}
