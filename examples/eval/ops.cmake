# The ops of rlhf-eval, and its sources where the CUDA backend is the only one (bench/gpu, tests/cuda/machine).

set(ops policy_loss is_correction distill_loss value_loss preference_loss unpaired_loss reward_loss robust_aggregate
  reward_shaping advantage kl aggregate token_logp sampler)

# eval_on_cuda(list ops...): the files of such a program, some of them written into the build folder.
function(eval_on_cuda list)
  set(folder ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  set(backend cuda)
  set(header cuda.cuh)
  set(type rlhf::cuda_backend)
  set(declarations "")
  set(tables "    list.push_back({\"cuda\", {}});\n")
  set(sources ${CMAKE_CURRENT_BINARY_DIR}/eval/backends.cpp)
  foreach(file main cases check failure parameter problem registry)
    list(APPEND sources ${folder}/${file}.cpp)
  endforeach()
  foreach(op IN LISTS ARGN)
    configure_file(${folder}/instantiate.cpp.in eval/${op}.cu @ONLY)
    list(APPEND sources ${CMAKE_CURRENT_BINARY_DIR}/eval/${op}.cu)
    string(APPEND declarations "void add_${op}_to_cuda(registry& table);\n")
    string(APPEND tables "    add_${op}_to_cuda(list.back().table);\n")
  endforeach()
  configure_file(${folder}/backends.cpp.in eval/backends.cpp @ONLY)
  set(${list} ${sources} PARENT_SCOPE)
endfunction()
