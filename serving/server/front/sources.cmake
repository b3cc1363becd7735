# The files of the front. tests/cc compiles those that need no gRPC.
set(NANN_FRONT_SOURCES
  cancellation.cc
  loaded_model.cc
  model_table.cc
  predict_messages.cc
  predictor.cc
  request_counts.cc
  tensor_proto.cc
  wire.cc
)
set(NANN_FRONT_GRPC_SOURCES
  c_api.cc
  call.cc
  relay.cc
  server.cc
)
