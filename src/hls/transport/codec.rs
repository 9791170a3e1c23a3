//! Codecs of elementary streams, and as much of their configuration as tells one encode from
//! another.

use std::fmt;

use super::bits::Bits;

/// How a stream is coded, by its type in the program map (ISO/IEC 13818-1 table 2-34).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    H264,
    Hevc,
    MpegVideo,
    Mpeg4Video,
    /// AAC in ADTS frames.
    Aac,
    /// AAC in LATM frames.
    AacLatm,
    MpegAudio,
    Ac3,
    EnhancedAc3,
    /// Neither picture nor sound that is known: metadata, subtitles.
    Other(u8),
}

impl Codec {
    /// By the stream type, and by the descriptors where that is private.
    pub fn of(stream_type: u8, descriptors: &[u8]) -> Codec {
        match stream_type {
            0x1b => Codec::H264,
            0x24 => Codec::Hevc,
            0x01 | 0x02 => Codec::MpegVideo,
            0x10 => Codec::Mpeg4Video,
            0x0f => Codec::Aac,
            0x11 => Codec::AacLatm,
            0x03 | 0x04 => Codec::MpegAudio,
            0x81 => Codec::Ac3,
            0x87 => Codec::EnhancedAc3,
            // DVB names them by descriptors (ETSI EN 300 468, annex D).
            0x06 if has_descriptor(descriptors, 0x6a) => Codec::Ac3,
            0x06 if has_descriptor(descriptors, 0x7a) => Codec::EnhancedAc3,
            other => Codec::Other(other),
        }
    }

    pub fn is_picture(self) -> bool {
        matches!(self, Codec::H264 | Codec::Hevc | Codec::MpegVideo | Codec::Mpeg4Video)
    }

    pub fn is_sound(self) -> bool {
        matches!(self, Codec::Aac | Codec::AacLatm | Codec::MpegAudio | Codec::Ac3 | Codec::EnhancedAc3)
    }

    /// Whether [`configuration`] finds something in it.
    pub fn has_configuration(self) -> bool {
        matches!(self, Codec::H264 | Codec::Hevc | Codec::Aac)
    }
}

fn has_descriptor(mut descriptors: &[u8], wanted: u8) -> bool {
    while let [tag, length, rest @ ..] = descriptors {
        if *tag == wanted {
            return true;
        }
        descriptors = rest.get(usize::from(*length)..).unwrap_or_default();
    }
    false
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::H264 => "H.264",
            Codec::Hevc => "HEVC",
            Codec::MpegVideo => "MPEG video",
            Codec::Mpeg4Video => "MPEG-4 video",
            Codec::Aac => "AAC",
            Codec::AacLatm => "AAC (LATM)",
            Codec::MpegAudio => "MPEG audio",
            Codec::Ac3 => "AC-3",
            Codec::EnhancedAc3 => "E-AC-3",
            Codec::Other(stream_type) => return write!(f, "stream type {stream_type:#04x}"),
        })
    }
}

/// What a decoder has to know before the first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Configuration {
    Picture {
        /// `profile_idc`.
        profile: u8,
        /// `level_idc`: 10 times the level for H.264, 30 times for HEVC.
        level: u8,
        /// In pixels, as shown: what is coded beyond the edge is taken off.
        width: u32,
        height: u32,
    },
    Sound {
        /// Of MPEG-4 audio; 2 is AAC-LC.
        object_type: u8,
        /// In Hz.
        sample_rate: u32,
        /// 0: told in the stream.
        channels: u8,
    },
}

impl Configuration {
    /// Whether a decoder that was set up for the one decodes the other. A level is only a bound on
    /// effort and changes with the encoder's mood.
    pub fn is_like(&self, other: &Configuration) -> bool {
        match (self, other) {
            (
                Configuration::Picture { profile, width, height, .. },
                Configuration::Picture { profile: profile2, width: width2, height: height2, .. },
            ) => (profile, width, height) == (profile2, width2, height2),
            _ => self == other,
        }
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Configuration::Picture { profile, width, height, .. } => write!(f, "{width}x{height} (profile {profile})"),
            Configuration::Sound { object_type, sample_rate, channels } => {
                let channels = match channels {
                    1 => "mono".into(),
                    2 => "stereo".into(),
                    count => format!("{count} channels"),
                };
                write!(f, "{sample_rate} Hz {channels}")?;
                if *object_type == 2 { Ok(()) } else { write!(f, " (object type {object_type})") }
            }
        }
    }
}

/// Looks for the configuration in the beginning of an access unit. `None` when it is not there, or
/// not whole yet.
pub fn configuration(codec: Codec, data: &[u8]) -> Option<Configuration> {
    match codec {
        Codec::H264 => units(data).filter(|unit| unit[0] & 0x1f == 7).find_map(|unit| h264(&unit[1..])),
        Codec::Hevc => units(data).filter(|unit| unit[0] >> 1 & 0x3f == 33).find_map(|unit| hevc(unit.get(2..)?)),
        Codec::Aac => adts(data),
        _ => None,
    }
}

/// The NAL units behind each start code, each with all that follows it. Never empty.
fn units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = data.windows(3).enumerate().filter(|(_, window)| *window == [0, 0, 1]);
    starts.map(|(start, _)| &data[start + 3..]).filter(|unit| !unit.is_empty())
}

/// The bytes of a NAL unit without emulation prevention (H.264 §7.4.1). More than enough of them for
/// what is read here.
fn without_emulation(unit: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(unit.len().min(512));
    let mut zeros = 0;
    for byte in unit.iter().take(512) {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        bytes.push(*byte);
    }
    bytes
}

/// A sequence parameter set of H.264 (§7.3.2.1.1).
fn h264(unit: &[u8]) -> Option<Configuration> {
    let bytes = without_emulation(unit);
    let mut bits = Bits::new(&bytes);
    let profile = bits.take(8)? as u8;
    bits.skip(8);
    let level = bits.take(8)? as u8;
    bits.unsigned()?;
    let mut chroma_format = 1;
    let mut has_separate_planes = false;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma_format = bits.unsigned()?;
        if chroma_format == 3 {
            has_separate_planes = bits.flag()?;
        }
        bits.unsigned()?;
        bits.unsigned()?;
        bits.skip(1);
        if bits.flag()? {
            for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.unsigned()?;
    match bits.unsigned()? {
        0 => drop(bits.unsigned()?),
        1 => {
            bits.skip(1);
            bits.signed()?;
            bits.signed()?;
            for _ in 0..bits.unsigned()?.min(255) {
                bits.signed()?;
            }
        }
        _ => {}
    }
    bits.unsigned()?;
    bits.skip(1);
    let width = bits.unsigned()?.checked_add(1)?.checked_mul(16)?;
    let map_height = bits.unsigned()?.checked_add(1)?.checked_mul(16)?;
    let only_frames = bits.flag()?;
    let height = map_height.checked_mul(if only_frames { 1 } else { 2 })?;
    if !only_frames {
        bits.skip(1);
    }
    bits.skip(1);
    // Table 6-1: how many samples of brightness one of colour covers.
    let chroma = if has_separate_planes { 0 } else { chroma_format };
    let unit_width = if matches!(chroma, 1 | 2) { 2 } else { 1 };
    let unit_height = if chroma == 1 { 2 } else { 1 } * if only_frames { 1 } else { 2 };
    let (width, height) = cropped(&mut bits, width, height, unit_width, unit_height)?;
    Some(Configuration::Picture { profile, level, width, height })
}

fn skip_scaling_list(bits: &mut Bits<'_>, length: usize) -> Option<()> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..length {
        if next != 0 {
            next = last.wrapping_add(bits.signed()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// A sequence parameter set of HEVC (H.265 §7.3.2.2.1).
fn hevc(unit: &[u8]) -> Option<Configuration> {
    let bytes = without_emulation(unit);
    let mut bits = Bits::new(&bytes);
    bits.skip(4);
    let sub_layers = bits.take(3)?;
    // profile_tier_level (§7.3.3).
    bits.skip(1 + 2 + 1);
    let profile = bits.take(5)? as u8;
    bits.skip(32 + 48);
    let level = bits.take(8)? as u8;
    let mut present = Vec::new();
    for _ in 0..sub_layers {
        present.push((bits.flag()?, bits.flag()?));
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers as usize));
    }
    for (has_profile, has_level) in present {
        bits.skip(if has_profile { 88 } else { 0 } + if has_level { 8 } else { 0 });
    }
    bits.unsigned()?;
    let mut chroma = bits.unsigned()?;
    if chroma == 3 && bits.flag()? {
        chroma = 0;
    }
    let (width, height) = (bits.unsigned()?, bits.unsigned()?);
    let unit_width = if matches!(chroma, 1 | 2) { 2 } else { 1 };
    let unit_height = if chroma == 1 { 2 } else { 1 };
    let (width, height) = cropped(&mut bits, width, height, unit_width, unit_height)?;
    Some(Configuration::Picture { profile, level, width, height })
}

/// Takes off what lies beyond the edge of the picture.
fn cropped(bits: &mut Bits<'_>, width: u32, height: u32, unit_width: u32, unit_height: u32) -> Option<(u32, u32)> {
    if !bits.flag()? {
        return Some((width, height));
    }
    let mut cut = |unit: u32| bits.unsigned()?.checked_add(bits.unsigned()?)?.checked_mul(unit);
    let (across, down) = (cut(unit_width)?, cut(unit_height)?);
    Some((width.checked_sub(across)?, height.checked_sub(down)?))
}

/// The head of an ADTS frame (ISO/IEC 14496-3 §1.A.2.2).
fn adts(data: &[u8]) -> Option<Configuration> {
    const SAMPLE_RATES: [u32; 13] =
        [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
    let &[0xff, second, third, fourth, ..] = data else { return None };
    if second & 0xf6 != 0xf0 {
        return None;
    }
    let sample_rate = *SAMPLE_RATES.get(usize::from(third >> 2 & 0x0f))?;
    let channels = (third & 1) << 2 | fourth >> 6;
    // Seven stands for eight of them (table 1.19).
    let channels = if channels == 7 { 8 } else { channels };
    Some(Configuration::Sound { object_type: (third >> 6) + 1, sample_rate, channels })
}
