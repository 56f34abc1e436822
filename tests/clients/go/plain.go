// One plain request for each API of the data and admin phases, as versions.go sends it at every version.

package main

import "github.com/twmb/franz-go/pkg/kmsg"

func plainRequests() map[int16]plain {
	requests := map[int16]plain{
		0:              {plainProduce, produceCodes},
		1:              {plainFetch, fetchCodes},
		2:              {plainListOffsets, listOffsetsCodes},
		3:              {plainMetadata, metadataCodes},
		keyApiVersions: {plainApiVersions, apiVersionsCodes},
		19:             {plainCreateTopics, createTopicsCodes},
		20:             {plainDeleteTopics, deleteTopicsCodes},
		21:             {plainDeleteRecords, deleteRecordsCodes},
		22:             {plainInitProducer, initProducerCodes},
		23:             {plainEpochEnd, epochEndCodes},
		32:             {plainDescribeConfigs, describeConfigsCodes},
		33:             {plainAlterConfigs, alterConfigsCodes},
		35:             {plainLogDirs, logDirsCodes},
		37:             {plainCreatePartitions, createPartitionsCodes},
		43:             {plainElectLeaders, electLeadersCodes},
		44:             {plainIncrementalAlter, incrementalAlterCodes},
		55:             {plainDescribeQuorum, describeQuorumCodes},
		60:             {plainDescribeCluster, describeClusterCodes},
		61:             {plainDescribeProducers, describeProducersCodes},
		74:             {plainListConfigResources, listConfigResourcesCodes},
		75:             {plainDescribeTopicPartitions, describeTopicPartitionsCodes},
	}
	return requests
}

func plainProduce(w *wire, _ int16) kmsg.Request { return w.produceRequest(0, batch(nil)) }

func produceCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode}
}

func plainFetch(w *wire, _ int16) kmsg.Request { return w.fetchRequest(0, -1) }

func fetchCodes(response kmsg.Response) []int16 {
	got := response.(*kmsg.FetchResponse)
	codes := []int16{got.ErrorCode}
	for _, topic := range got.Topics {
		codes = append(codes, topic.Partitions[0].ErrorCode)
	}
	return codes
}

func plainListOffsets(w *wire, _ int16) kmsg.Request { return w.listOffsetsRequest(0, -1) }

func listOffsetsCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].ErrorCode}
}

func plainMetadata(w *wire, _ int16) kmsg.Request {
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(w.topic)
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = append(request.Topics, topic)
	return request
}

func metadataCodes(response kmsg.Response) []int16 {
	topic := response.(*kmsg.MetadataResponse).Topics[0]
	return []int16{topic.ErrorCode, topic.Partitions[0].ErrorCode}
}

func plainApiVersions(*wire, int16) kmsg.Request {
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "wire", "1"
	return request
}

func apiVersionsCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.ApiVersionsResponse).ErrorCode}
}

func plainCreateTopics(*wire, int16) kmsg.Request {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = topicName("wire", "try"), 1, 1
	request := kmsg.NewPtrCreateTopicsRequest()
	request.ValidateOnly = true
	request.Topics = append(request.Topics, topic)
	return request
}

func createTopicsCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode}
}

// plainDeleteTopics deletes none: an empty list is answered with an empty list.
func plainDeleteTopics(*wire, int16) kmsg.Request { return kmsg.NewPtrDeleteTopicsRequest() }

func deleteTopicsCodes(response kmsg.Response) []int16 {
	var codes []int16
	for _, topic := range response.(*kmsg.DeleteTopicsResponse).Topics {
		codes = append(codes, topic.ErrorCode)
	}
	return codes
}

func plainDeleteRecords(w *wire, _ int16) kmsg.Request {
	partition := kmsg.NewDeleteRecordsRequestTopicPartition()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = w.topic
	topic.Partitions = append(topic.Partitions, partition)
	request := kmsg.NewPtrDeleteRecordsRequest()
	request.Topics = append(request.Topics, topic)
	return request
}

func deleteRecordsCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode}
}

func plainInitProducer(*wire, int16) kmsg.Request { return kmsg.NewPtrInitProducerIDRequest() }

func initProducerCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.InitProducerIDResponse).ErrorCode}
}

func plainEpochEnd(w *wire, _ int16) kmsg.Request { return w.epochEndRequest(w.topic, -1) }

func epochEndCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0].ErrorCode}
}

func plainDescribeConfigs(w *wire, _ int16) kmsg.Request {
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, w.topic
	request := kmsg.NewPtrDescribeConfigsRequest()
	request.IncludeSynonyms, request.IncludeDocumentation = true, true
	request.Resources = append(request.Resources, resource)
	return request
}

func describeConfigsCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.DescribeConfigsResponse).Resources[0].ErrorCode}
}

func plainAlterConfigs(w *wire, _ int16) kmsg.Request {
	config := kmsg.NewAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "retention.ms", kmsg.StringPtr("1000000")
	resource := kmsg.NewAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, w.topic
	resource.Configs = append(resource.Configs, config)
	request := kmsg.NewPtrAlterConfigsRequest()
	request.Resources = append(request.Resources, resource)
	return request
}

func alterConfigsCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.AlterConfigsResponse).Resources[0].ErrorCode}
}

func plainLogDirs(*wire, int16) kmsg.Request { return kmsg.NewPtrDescribeLogDirsRequest() }

func logDirsCodes(response kmsg.Response) []int16 {
	got := response.(*kmsg.DescribeLogDirsResponse)
	return []int16{got.ErrorCode, got.Dirs[0].ErrorCode}
}

func plainCreatePartitions(w *wire, _ int16) kmsg.Request {
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = w.topic, 2
	request := kmsg.NewPtrCreatePartitionsRequest()
	request.ValidateOnly = true
	request.Topics = append(request.Topics, topic)
	return request
}

func createPartitionsCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode}
}

func plainIncrementalAlter(w *wire, _ int16) kmsg.Request {
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "retention.ms", kmsg.StringPtr("2000000")
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, w.topic
	resource.Configs = append(resource.Configs, config)
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	request.Resources = append(request.Resources, resource)
	return request
}

func incrementalAlterCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode}
}

func plainDescribeCluster(*wire, int16) kmsg.Request { return kmsg.NewPtrDescribeClusterRequest() }

func describeClusterCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.DescribeClusterResponse).ErrorCode}
}

func plainListConfigResources(*wire, int16) kmsg.Request {
	return kmsg.NewPtrListConfigResourcesRequest()
}

func listConfigResourcesCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.ListConfigResourcesResponse).ErrorCode}
}

// Of all partitions only those are told that an election changed, or could not.
func plainElectLeaders(_ *wire, _ int16) kmsg.Request {
	request := kmsg.NewPtrElectLeadersRequest()
	request.TimeoutMillis = 10000
	return request
}

func electLeadersCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.ElectLeadersResponse).ErrorCode}
}

func plainDescribeQuorum(_ *wire, _ int16) kmsg.Request {
	topic := kmsg.NewDescribeQuorumRequestTopic()
	topic.Topic = "__cluster_metadata"
	topic.Partitions = append(topic.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
	request := kmsg.NewPtrDescribeQuorumRequest()
	request.Topics = append(request.Topics, topic)
	return request
}

func describeQuorumCodes(response kmsg.Response) []int16 {
	got := response.(*kmsg.DescribeQuorumResponse)
	return []int16{got.ErrorCode, got.Topics[0].Partitions[0].ErrorCode}
}

func plainDescribeProducers(w *wire, _ int16) kmsg.Request {
	topic := kmsg.NewDescribeProducersRequestTopic()
	topic.Topic = w.topic
	topic.Partitions = []int32{0}
	request := kmsg.NewPtrDescribeProducersRequest()
	request.Topics = append(request.Topics, topic)
	return request
}

func describeProducersCodes(response kmsg.Response) []int16 {
	return []int16{response.(*kmsg.DescribeProducersResponse).Topics[0].Partitions[0].ErrorCode}
}

func plainDescribeTopicPartitions(w *wire, _ int16) kmsg.Request {
	topic := kmsg.NewDescribeTopicPartitionsRequestTopic()
	topic.Topic = w.topic
	request := kmsg.NewPtrDescribeTopicPartitionsRequest()
	request.ResponsePartitionLimit = 100
	request.Topics = append(request.Topics, topic)
	return request
}

func describeTopicPartitionsCodes(response kmsg.Response) []int16 {
	topic := response.(*kmsg.DescribeTopicPartitionsResponse).Topics[0]
	return []int16{topic.ErrorCode, topic.Partitions[0].ErrorCode}
}
