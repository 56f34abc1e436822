//! OffsetDelete (47): forgets offsets of topics that nobody in the group subscribes to (KIP-496).
use model::assign::Spot;
use model::controller::Image;
use model::coordinator::{Code, Command, Reply};
use wire::kafka::messages::offset_delete::{
    OffsetDeleteRequestTopic, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use wire::kafka::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use wire::kafka::{ErrorCode, Str};

use super::groups::{code, refusal, spot_of};
use crate::kafka::Call;

/// Answers every version.
pub(in crate::kafka) async fn answer(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let image = call.broker().image();
    let mut spots = Vec::new();
    let mut topics: Vec<OffsetDeleteResponseTopic> =
        request.topics.iter().map(|asked| check(&image, asked, &mut spots)).collect();
    match delete(&call, &request.group_id, spots).await {
        Ok(results) => {
            let admitted = topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|of| of.error_code == 0);
            admitted.zip(results).for_each(|(partition, code)| partition.error_code = code.code());
            OffsetDeleteResponse { topics, ..Default::default() }
        }
        Err(code) => OffsetDeleteResponse { error_code: code.code(), ..Default::default() },
    }
}

fn check(
    image: &Image,
    asked: &OffsetDeleteRequestTopic,
    spots: &mut Vec<(Spot, String)>,
) -> OffsetDeleteResponseTopic {
    let partitions = asked.partitions.iter().map(|partition| {
        let spot = spot_of(image, &asked.name, partition.partition_index);
        let error_code = spot.as_ref().err().map_or(0, |code| code.code());
        spots.extend(spot.map(|spot| (spot, asked.name.to_string())));
        OffsetDeleteResponsePartition { partition_index: partition.partition_index, error_code, ..Default::default() }
    });
    OffsetDeleteResponseTopic { partitions: partitions.collect(), name: asked.name.clone(), ..Default::default() }
}

/// One code per spot; what concerns the group as a whole is the error.
async fn delete(call: &Call, group: &Str, spots: Vec<(Spot, String)>) -> Result<Vec<ErrorCode>, ErrorCode> {
    let command = Command::DeleteOffsets { group: group.to_string(), spots };
    let each = match call.broker().group_command(group.as_str(), command).await {
        Ok(Reply::Each(each)) => each,
        Ok(_) => return Err(ErrorCode::UnknownServerError),
        Err(denied) => return Err(code(&denied)),
    };
    let whole = each.iter().find_map(|result| match result {
        Err(code @ (Code::GroupIdNotFound | Code::NonEmptyGroup)) => Some(refusal(*code)),
        _ => None,
    });
    whole.map_or_else(
        || Ok(each.into_iter().map(|result| result.map_or_else(refusal, |()| ErrorCode::None)).collect()),
        Err,
    )
}
