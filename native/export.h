/* What the shared library shows to the outside: everything else is hidden (-fvisibility=hidden). */
#ifndef FST_EXPORT_H
#define FST_EXPORT_H

#define FST_EXPORT __attribute__((visibility("default")))

#endif
