//! The one table of Kafka APIs: what is served, from and to which version, how large a request may be.
//! ApiVersions, dispatch and metric labels derive from it; a test holds it against codec and schema.
//! Never: a version here that the codec cannot decode (ApiVersions ends at 4: the codec's schema is Kafka 4.3, and a
//! 4.4 client that sends 5 falls back to 4 by itself, KIP-511).

use super::ErrorCode;
use super::messages::{ApiVersionsResponse, api_versions::ApiVersion};

/// Most bytes of a request that carries no records. A Metadata request for 10,000 names of full length is 2.5 MB.
pub const MAX_SMALL_REQUEST_BYTES: usize = 4 << 20;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// Key on the wire.
    pub key: ApiKey,
    /// Kafka's name of the API; use it as the metric label.
    pub name: &'static str,
    /// Lowest version served.
    pub min: i16,
    /// Highest version served and advertised.
    pub max: i16,
    /// First version with compact lengths and tagged fields (KIP-482).
    pub flexible_from: i16,
    /// Lowest version advertised. Below `min` for Produce only: old librdkafka switches compression off unless 0 is
    /// offered (KAFKA-18659).
    pub advertised_min: i16,
    /// Whether a request carries records, so that only the listener's own limit holds for its size.
    pub carries_records: bool,
}

impl Api {
    /// Whether this version is served.
    #[must_use]
    pub const fn serves(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Whether this version has compact lengths and tagged fields.
    #[must_use]
    pub const fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }

    /// Version of the request header: 1, or 2 with tagged fields.
    #[must_use]
    pub const fn request_header_version(&self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Version of the response header: 0, or 1 with tagged fields. ApiVersions always has 0, so that a client can read
    /// the answer to a version the server does not know (KIP-511).
    #[must_use]
    pub const fn response_header_version(&self, version: i16) -> i16 {
        if matches!(self.key, ApiKey::ApiVersions) || !self.is_flexible(version) { 0 } else { 1 }
    }

    /// Most bytes of one request, given the listener's limit.
    #[must_use]
    pub const fn max_request_bytes(&self, max_frame_bytes: usize) -> usize {
        if self.carries_records || max_frame_bytes < MAX_SMALL_REQUEST_BYTES {
            max_frame_bytes
        } else {
            MAX_SMALL_REQUEST_BYTES
        }
    }
}

macro_rules! apis {
    ($($name:ident = $key:literal, $min:literal..=$max:literal, flexible $flexible:literal,
       advertised $advertised:literal, $records:literal;)*) => {
        /// Key of an API that is served. The discriminant is the number on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        #[allow(missing_docs, reason = "the names are Kafka's")]
        pub enum ApiKey { $($name = $key),* }

        /// All rows, by ascending key.
        pub static APIS: &[Api] = &[$(*ApiKey::$name.api()),*];

        impl ApiKey {
            /// The API with this key, if it is served.
            #[must_use]
            pub const fn from_i16(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The row of this API.
            #[must_use]
            pub const fn api(self) -> &'static Api {
                match self {
                    $(Self::$name => &Api {
                        key: Self::$name,
                        name: stringify!($name),
                        min: $min,
                        max: $max,
                        flexible_from: $flexible,
                        advertised_min: $advertised,
                        carries_records: $records,
                    },)*
                }
            }

            /// Kafka's name of the API.
            #[must_use]
            pub const fn name(self) -> &'static str {
                self.api().name
            }
        }
    };
}

apis! {
    Produce                 = 0,  3..=13, flexible 9,  advertised 0, true;
    Fetch                   = 1,  4..=18, flexible 12, advertised 4, false;
    ListOffsets             = 2,  1..=11, flexible 6,  advertised 1, false;
    Metadata                = 3,  0..=13, flexible 9,  advertised 0, false;
    OffsetCommit            = 8,  2..=10, flexible 8,  advertised 2, false;
    OffsetFetch             = 9,  1..=10, flexible 6,  advertised 1, false;
    FindCoordinator         = 10, 0..=6,  flexible 3,  advertised 0, false;
    JoinGroup               = 11, 0..=9,  flexible 6,  advertised 0, false;
    Heartbeat               = 12, 0..=4,  flexible 4,  advertised 0, false;
    LeaveGroup              = 13, 0..=5,  flexible 4,  advertised 0, false;
    SyncGroup               = 14, 0..=5,  flexible 4,  advertised 0, false;
    DescribeGroups          = 15, 0..=6,  flexible 5,  advertised 0, false;
    ListGroups              = 16, 0..=5,  flexible 3,  advertised 0, false;
    ApiVersions             = 18, 0..=4,  flexible 3,  advertised 0, false;
    CreateTopics            = 19, 2..=7,  flexible 5,  advertised 2, false;
    DeleteTopics            = 20, 1..=6,  flexible 4,  advertised 1, false;
    DeleteRecords           = 21, 0..=2,  flexible 2,  advertised 0, false;
    InitProducerId          = 22, 0..=6,  flexible 2,  advertised 0, false;
    OffsetForLeaderEpoch    = 23, 2..=4,  flexible 4,  advertised 2, false;
    DescribeConfigs         = 32, 1..=4,  flexible 4,  advertised 1, false;
    AlterConfigs            = 33, 0..=2,  flexible 2,  advertised 0, false;
    DescribeLogDirs         = 35, 1..=5,  flexible 2,  advertised 1, false;
    CreatePartitions        = 37, 0..=3,  flexible 2,  advertised 0, false;
    DeleteGroups            = 42, 0..=2,  flexible 2,  advertised 0, false;
    ElectLeaders            = 43, 0..=2,  flexible 2,  advertised 0, false;
    IncrementalAlterConfigs = 44, 0..=1,  flexible 1,  advertised 0, false;
    AlterPartitionReassignments = 45, 0..=1, flexible 0, advertised 0, false;
    ListPartitionReassignments  = 46, 0..=0, flexible 0, advertised 0, false;
    OffsetDelete            = 47, 0..=0,  flexible 1,  advertised 0, false;
    DescribeQuorum          = 55, 0..=2,  flexible 0,  advertised 0, false;
    UpdateFeatures          = 57, 0..=2,  flexible 0,  advertised 0, false;
    DescribeCluster         = 60, 0..=2,  flexible 0,  advertised 0, false;
    DescribeProducers       = 61, 0..=0,  flexible 0,  advertised 0, false;
    ConsumerGroupHeartbeat  = 68, 0..=1,  flexible 0,  advertised 0, false;
    ConsumerGroupDescribe   = 69, 0..=1,  flexible 0,  advertised 0, false;
    ListConfigResources     = 74, 0..=1,  flexible 0,  advertised 0, false;
    DescribeTopicPartitions = 75, 0..=0,  flexible 0,  advertised 0, false;
}

/// The ApiVersions answer with every row of the table; the node adds the finalized features. With an error it still
/// lists all keys: an empty list makes clients fail to bootstrap.
#[must_use]
pub fn api_versions_response(error: ErrorCode) -> ApiVersionsResponse {
    let row = |api: &Api| ApiVersion {
        api_key: api.key as i16,
        min_version: api.advertised_min,
        max_version: api.max,
        ..Default::default()
    };
    ApiVersionsResponse { error_code: error.code(), api_keys: APIS.iter().map(row).collect(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ascend_and_ranges_are_sane() {
        assert!(APIS.windows(2).all(|pair| (pair[0].key as i16) < pair[1].key as i16));
        for api in APIS {
            assert!(0 <= api.advertised_min && api.advertised_min <= api.min && api.min <= api.max, "{}", api.name);
            assert_eq!(ApiKey::from_i16(api.key as i16), Some(api.key));
        }
        assert_eq!(ApiKey::from_i16(71), None, "telemetry is probed by clients when offered");
    }

    #[test]
    fn header_versions_follow_kip_482_and_511() {
        let api = ApiKey::ApiVersions.api();
        assert_eq!((api.request_header_version(2), api.request_header_version(3)), (1, 2));
        assert_eq!((api.response_header_version(0), api.response_header_version(4)), (0, 0));
        let metadata = ApiKey::Metadata.api();
        assert_eq!((metadata.response_header_version(8), metadata.response_header_version(9)), (0, 1));
    }

    #[test]
    fn the_answer_offers_produce_from_zero() {
        let answer = api_versions_response(ErrorCode::UnsupportedVersion);
        assert_eq!(answer.error_code, 35);
        assert_eq!(answer.api_keys.len(), APIS.len());
        assert_eq!((answer.api_keys[0].min_version, answer.api_keys[0].max_version), (0, 13));
    }
}
