# cmake --install: headers, one export file per component (so that nobody needs the packages of a component not asked for),
# rlhf-config.cmake and rlhf.pc.

include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/rlhf)

install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh")
foreach(component IN LISTS rlhf_COMPONENTS)
  install(TARGETS rlhf_${component} EXPORT rlhf-${component})
  install(EXPORT rlhf-${component} NAMESPACE rlhf:: FILE rlhf-${component}-targets.cmake DESTINATION ${package_dir})
endforeach()

configure_package_config_file(cmake/rlhf-config.cmake.in rlhf-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(rlhf-config-version.cmake COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/rlhf-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/rlhf-config-version.cmake
              cmake/rlhf-thrust.cmake DESTINATION ${package_dir})

configure_file(cmake/rlhf.pc.in rlhf.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/rlhf.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
