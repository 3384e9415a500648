//! MPEG audio (MP3 and its layers) and AAC in ADTS: every frame header must stand where the frame before it ended.

use super::{Complaint, FaultKind, Step, complain};

/// Enough of a frame to know its length in either dialect.
const HEAD: usize = 6;

#[derive(Debug)]
pub(crate) struct Mpeg {
    dialect: Dialect,
    /// The header bits that stay the same through a stream.
    constant: Option<[u8; 2]>,
}

#[derive(Clone, Copy, Debug)]
enum Dialect {
    Mp3,
    Adts,
}

struct Frame {
    length: u64,
    constant: [u8; 2],
}

impl Mpeg {
    pub(super) fn mp3() -> Self {
        Self { dialect: Dialect::Mp3, constant: None }
    }

    pub(super) fn adts() -> Self {
        Self { dialect: Dialect::Adts, constant: None }
    }

    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, Complaint> {
        if bytes.len() < HEAD {
            return Ok(Step::More);
        }
        match self.frame(bytes) {
            None => complain(FaultKind::Torn, "no frame header where the frame before ended"),
            Some(frame) if self.constant.is_some_and(|before| before != frame.constant) => {
                complain(FaultKind::Torn, "a frame of another version, layer or sample rate")
            }
            Some(frame) => {
                self.constant = Some(frame.constant);
                Ok(Step::Take(frame.length))
            }
        }
    }

    /// Two headers in the right distance: one alone may be chance.
    pub(super) fn begins(&self, bytes: &[u8]) -> Option<bool> {
        if bytes.len() < HEAD {
            return None;
        }
        let Some(first) = self.frame(bytes) else { return Some(false) };
        let next = bytes.get(first.length as usize..).filter(|next| next.len() >= HEAD)?;
        Some(self.frame(next).is_some_and(|second| second.constant == first.constant))
    }

    fn frame(&self, bytes: &[u8]) -> Option<Frame> {
        let header: &[u8; HEAD] = bytes.get(..HEAD)?.try_into().ok()?;
        match self.dialect {
            Dialect::Mp3 => mp3_frame(header),
            Dialect::Adts => adts_frame(header),
        }
    }
}

fn mp3_frame(h: &[u8; HEAD]) -> Option<Frame> {
    const V1_L1: [u64; 15] = [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448];
    const V1_L2: [u64; 15] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];
    const V1_L3: [u64; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const V2_L1: [u64; 15] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256];
    const V2_L23: [u64; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let (version, layer) = ((h[1] >> 3) & 3, (h[1] >> 1) & 3);
    if h[0] != 0xFF || h[1] & 0xE0 != 0xE0 || version == 1 || layer == 0 {
        return None;
    }
    let rate = [44_100u64, 48_000, 32_000].get(usize::from((h[2] >> 2) & 3))?;
    let rate = match version {
        3 => *rate,
        2 => rate / 2,
        _ => rate / 4,
    };
    let table = match (version, layer) {
        (3, 3) => V1_L1,
        (3, 2) => V1_L2,
        (3, _) => V1_L3,
        (_, 3) => V2_L1,
        _ => V2_L23,
    };
    let kilobits = *table.get(usize::from(h[2] >> 4))?;
    let padding = u64::from((h[2] >> 1) & 1);
    let length = match (version, layer) {
        (_, 3) => (12_000 * kilobits / rate + padding) * 4,
        (0 | 2, 1) => 72_000 * kilobits / rate + padding,
        _ => 144_000 * kilobits / rate + padding,
    };
    // Free format (bit rate 0) has no length in its header and is not used by streams.
    (kilobits > 0).then_some(Frame { length, constant: [h[1] & 0xFE, h[2] & 0x0C] })
}

fn adts_frame(h: &[u8; HEAD]) -> Option<Frame> {
    let length = (u64::from(h[3] & 3) << 11) | (u64::from(h[4]) << 3) | u64::from(h[5] >> 5);
    let rate = (h[2] >> 2) & 15;
    (h[0] == 0xFF && h[1] & 0xF6 == 0xF0 && rate < 13 && length >= 7).then_some(Frame { length, constant: [h[1] & 0xFE, h[2] & 0xFC] })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{kind_of, verdict};
    use super::super::{FaultKind, Format, Start};

    /// 128 kbit/s, 44.1 kHz, padded as told: 417 or 418 bytes.
    fn mp3(padded: bool) -> Vec<u8> {
        let mut frame = vec![0xFF, 0xFB, if padded { 0x92 } else { 0x90 }, 0x04];
        frame.resize(if padded { 418 } else { 417 }, 0x55);
        frame
    }

    fn adts(length: usize) -> Vec<u8> {
        let mut frame = vec![0xFF, 0xF1, 0x50, 0x80 | (length >> 11) as u8, (length >> 3) as u8, ((length << 5) as u8) | 0x1F];
        frame.resize(length, 0x33);
        frame
    }

    #[test]
    fn frames_that_follow_each_other_are_accepted() {
        assert_eq!(verdict(Format::Mp3, Start::Exact, &[mp3(true), mp3(false), mp3(true)].concat()), Ok(3));
        assert_eq!(verdict(Format::Adts, Start::Exact, &[adts(300), adts(7), adts(2100)].concat()), Ok(3));
    }

    #[test]
    fn a_torn_frame_is_noticed() {
        let torn = [mp3(false), mp3(false)[..200].to_vec(), mp3(false)].concat();
        assert_eq!(kind_of(verdict(Format::Mp3, Start::Exact, &torn)), Some(FaultKind::Torn));
        let torn = [adts(300), adts(300)[..299].to_vec(), adts(300)].concat();
        assert_eq!(kind_of(verdict(Format::Adts, Start::Exact, &torn)), Some(FaultKind::Torn));
    }

    #[test]
    fn a_start_inside_a_frame_is_a_fault_only_where_exactness_is_asked() {
        let late = [&mp3(false)[100..], &mp3(true), &mp3(false), &mp3(true)].concat();
        assert_eq!(kind_of(verdict(Format::Mp3, Start::Exact, &late)), Some(FaultKind::Start));
        assert_eq!(verdict(Format::Mp3, Start::Anywhere, &late), Ok(3));
    }

    #[test]
    fn a_change_of_sample_rate_within_a_stream_is_noticed() {
        let mut other = mp3(false);
        other[2] |= 0x04;
        other.resize(384, 0);
        assert_eq!(kind_of(verdict(Format::Mp3, Start::Exact, &[mp3(false), other].concat())), Some(FaultKind::Torn));
    }
}
