//! Refuses Produce 0-2 in words the client understands. They are advertised (else old librdkafka switches compression
//! off, KAFKA-18659) but not served: every partition is answered UNSUPPORTED_VERSION.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{ApiKey, ErrorCode, frame, schema};
use crate::{Error, Result, bound};

/// Answers a frame for which [`frame::parse_request`] gave `UnsupportedVersion { api: Produce, version: 0..=2, .. }`.
/// `None` if the client wants no answer (acks 0): close the connection then, as Kafka does on an error.
///
/// # Errors
/// [`Error::Malformed`] or [`Error::TooManyElements`] for a bad body, [`Error::UnsupportedVersion`] for any other
/// request: close the connection.
pub fn refuse(mut request: Bytes) -> Result<Option<Bytes>> {
    let (key, version, correlation_id) = frame::take_fixed_header(&mut request)?;
    if key != ApiKey::Produce as i16 || !(0..=2).contains(&version) {
        return Err(Error::UnsupportedVersion { api: ApiKey::Produce, version, correlation_id });
    }
    frame::take_client_id(&mut request)?;
    bound::check(schema::request(ApiKey::Produce), version, false, &request)?;
    let acks = request.get_i16();
    request.advance(4);
    let mut response = BytesMut::new();
    response.put_i32(0);
    response.put_i32(correlation_id);
    refuse_topics(version, &mut request, &mut response);
    if version >= 1 {
        response.put_i32(0);
    }
    let length = i32::try_from(response.len() - 4).map_err(|_| Error::Encode("frame above 2 GiB".into()))?;
    response[..4].copy_from_slice(&length.to_be_bytes());
    Ok((acks != 0).then(|| response.freeze()))
}

/// The body was checked: every length fits.
fn refuse_topics(version: i16, request: &mut Bytes, response: &mut BytesMut) {
    let topics = request.get_i32();
    response.put_i32(topics);
    for _ in 0..topics {
        let name_bytes = request.get_i16();
        response.put_i16(name_bytes);
        response.put_slice(&request.split_to(name_bytes as usize));
        let partitions = request.get_i32();
        response.put_i32(partitions);
        for _ in 0..partitions {
            response.put_i32(request.get_i32());
            request.advance(request.clone().get_i32().max(0) as usize + 4);
            response.put_i16(ErrorCode::UnsupportedVersion.code());
            response.put_i64(-1);
            if version >= 2 {
                response.put_i64(-1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: u8, acks: u8) -> Bytes {
        let head = [0, 0, 0, version, 0, 0, 0, 9, 0xff, 0xff, 0, acks, 0, 0, 0, 0];
        let body = [&[0, 0, 0, 1, 0, 1][..], b"t", &[0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2, 0xaa, 0xbb]].concat();
        [&head[..], &body].concat().into()
    }

    #[test]
    fn each_partition_is_refused() {
        let topic = [&[0, 0, 0, 9, 0, 0, 0, 1, 0, 1][..], b"t", &[0, 0, 0, 1, 0, 0, 0, 3, 0, 35]].concat();
        for (version, tail) in [(0, vec![0xff; 8]), (1, [vec![0xff; 8], vec![0; 4]].concat())] {
            let expected = [&topic[..], &tail].concat();
            assert_eq!(&refuse(request(version, 1)).unwrap().unwrap()[4..], expected, "v{version}");
        }
        assert_eq!(refuse(request(2, 1)).unwrap().unwrap().len(), 4 + topic.len() + 16 + 4);
        assert_eq!(refuse(request(2, 0)).unwrap(), None);
        assert!(refuse(request(3, 1)).is_err());
        assert!(refuse(request(2, 1).slice(..30)).is_err());
    }
}
