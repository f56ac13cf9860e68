# gnuplot -e "set terminal svg; set output 'plot.svg'" THIS
set encoding utf8
set border 3 lc rgb '#555555'
set tics nomirror out
set grid lc rgb '#e4e4e4' lt 1 lw 0.6
set errorbars 0.7
set label 900 '{/:Bold Where the time goes, prompts of 64 tokens}' at screen 0.015,0.965 left enhanced font 'DejaVu Sans,15'
set label 901 'moe-0.9b on network namespaces of one machine at 1gbit; 1 rank per node; --weights q4 --threads 1; 16 decode steps, medians of 3 runs' at screen 0.015,0.922 left noenhanced font 'DejaVu Sans,9.5' tc rgb '#555555'
set label 902 'Intel(R) Xeon(R) Processor @ 2.50GHz, 2 cores, 25 GB; shoal 0.1.0 (591fc547116de2d2); 2026-11-27' at screen 0.015,0.891 left noenhanced font 'DejaVu Sans,9.5' tc rgb '#555555'
set label 990 '* nodes that share the cores of one machine, with more threads than it has cores' at screen 0.015,0.022 left noenhanced font 'DejaVu Sans,9' tc rgb '#555555'
set label 991 'wire: messages, and waiting for them; imbalance: waiting for ranks with more to do; wait: between steps' at screen 0.015,0.052 left noenhanced font 'DejaVu Sans,9' tc rgb '#555555'
set multiplot
set tmargin at screen 0.81
set bmargin at screen 0.20
set yrange [0:100]
set style fill solid 0.9 noborder
set boxwidth 0.82
unset grid
unset key
set ytics 0,25,100
set border 2 lc rgb '#555555'
set tics scale 0.5
set object 50 rectangle from screen 0.1000,0.8390 to screen 0.1240,0.8610 fc rgb '#0072B2' fs solid 0.9 noborder
set label 870 'compute' at screen 0.1320,0.8500 left noenhanced font 'DejaVu Sans,10'
set object 51 rectangle from screen 0.2166,0.8390 to screen 0.2406,0.8610 fc rgb '#E69F00' fs solid 0.9 noborder
set label 871 'wire' at screen 0.2486,0.8500 left noenhanced font 'DejaVu Sans,10'
set object 52 rectangle from screen 0.3098,0.8390 to screen 0.3338,0.8610 fc rgb '#CC79A7' fs solid 0.9 noborder
set label 872 'imbalance' at screen 0.3418,0.8500 left noenhanced font 'DejaVu Sans,10'
set object 53 rectangle from screen 0.4420,0.8390 to screen 0.4660,0.8610 fc rgb '#999999' fs solid 0.9 noborder
set label 873 'wait' at screen 0.4740,0.8500 left noenhanced font 'DejaVu Sans,10'
set lmargin at screen 0.085
set rmargin at screen 0.495
set ylabel 'decode: % of the time' noenhanced
set label 300 '1 sequence' at first 1, graph -0.125 center noenhanced font 'DejaVu Sans,10'
set label 301 '8 sequences' at first 4.7, graph -0.125 center noenhanced font 'DejaVu Sans,10'
set label 302 '32 sequences' at first 8.4, graph -0.125 center noenhanced font 'DejaVu Sans,10'
set xrange [-0.7:10.1]
set xtics ("1" 0, "2" 1, "4*" 2, "1" 3.7, "2" 4.7, "4*" 5.7, "1" 7.4, "2" 8.4, "4*" 9.4)
set label 299 'nodes' at graph -0.02, graph -0.058 right noenhanced font 'DejaVu Sans,10'
set label 303 '99' at first 0, first 49.3467 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 304 '33' at first 1, first 16.304 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 305 '45' at first 1, first 55.265 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 306 '17' at first 1, first 86.2315 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 307 '15' at first 2, first 7.44582 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 308 '57' at first 2, first 43.3229 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 309 '20' at first 2, first 81.7267 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 310 '8' at first 2, first 95.8496 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 311 '98' at first 3.7, first 49.1125 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 312 '60' at first 4.7, first 30.0036 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 313 '33' at first 4.7, first 76.5205 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 314 '32' at first 5.7, first 15.9227 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 315 '59' at first 5.7, first 61.0965 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 316 '97' at first 7.4, first 48.3561 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 317 '68' at first 8.4, first 34.0391 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 318 '28' at first 8.4, first 81.936 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 319 '42' at first 9.4, first 20.8755 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 320 '52' at first 9.4, first 67.7408 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
$d0 << EOD
0 98.6935 99.9644 99.9644 100
1 32.6081 77.922 94.5411 100
2 14.8916 71.7541 91.6992 100
3.7 98.2251 99.9915 99.9915 100
4.7 60.0072 93.0339 97.7967 100
5.7 31.8455 90.3475 97.0049 100
7.4 96.7123 99.9947 99.9947 100
8.4 68.0783 95.7938 98.8479 100
9.4 41.7509 93.7306 97.688 100
EOD
plot $d0 using 1:5 with boxes lc rgb '#999999' notitle, \
     $d0 using 1:4 with boxes lc rgb '#CC79A7' notitle, \
     $d0 using 1:3 with boxes lc rgb '#E69F00' notitle, \
     $d0 using 1:2 with boxes lc rgb '#0072B2' notitle
unset label 870
unset label 871
unset label 872
unset label 873
unset label 874
unset label 875
unset label 876
unset label 877
unset label 878
unset label 879
unset label 880
unset label 881
unset label 882
unset label 883
unset label 884
unset label 885
unset label 886
unset label 887
unset label 888
unset label 889
unset label 890
unset label 891
unset label 892
unset label 893
unset label 894
unset label 895
unset label 896
unset label 897
unset label 898
unset label 899
unset label 900
unset label 901
unset label 902
unset label 903
unset label 990
unset label 991
unset label 992
set lmargin at screen 0.575
set rmargin at screen 0.985
set ylabel 'prefill: % of the time' noenhanced
unset label 300
unset label 301
unset label 302
unset label 303
unset label 304
unset label 305
unset label 306
unset label 307
unset label 308
unset label 309
unset label 310
unset label 311
unset label 312
unset label 313
unset label 314
unset label 315
unset label 316
unset label 317
unset label 318
unset label 319
unset label 320
unset label 321
unset label 322
unset label 323
unset label 324
unset label 325
unset label 326
unset label 327
unset label 328
unset label 329
unset label 330
unset label 331
unset label 332
unset label 333
unset label 334
unset label 335
unset label 336
unset label 337
unset label 338
unset label 339
unset label 340
unset label 341
unset label 342
unset label 343
unset label 344
unset label 345
unset label 346
unset label 347
unset label 348
unset label 349
unset label 350
unset label 351
unset label 352
unset label 353
unset label 354
unset label 355
unset label 356
unset label 357
unset label 358
unset label 359
unset label 360
unset label 361
unset label 362
unset label 363
unset label 364
unset label 365
unset label 366
unset label 367
unset label 368
unset label 369
unset label 370
unset label 371
unset label 372
unset label 373
unset label 374
unset label 375
unset label 376
unset label 377
unset label 378
unset label 379
unset label 380
unset label 381
unset label 382
unset label 383
unset label 384
unset label 385
unset label 386
unset label 387
unset label 388
unset label 389
unset label 390
unset label 391
unset label 392
unset label 393
unset label 394
unset label 395
unset label 396
unset label 397
unset label 398
unset label 399
unset label 400
unset label 401
unset label 402
unset label 403
unset label 404
unset label 405
unset label 406
unset label 407
unset label 408
unset label 409
unset label 410
unset label 411
unset label 412
unset label 413
unset label 414
unset label 415
unset label 416
unset label 417
unset label 418
unset label 419
unset label 420
unset label 421
unset label 422
unset label 423
unset label 424
unset label 425
unset label 426
unset label 427
unset label 428
unset label 429
unset label 430
unset label 431
unset label 432
unset label 433
unset label 434
unset label 435
unset label 436
unset label 437
unset label 438
unset label 439
unset label 440
unset label 441
unset label 442
unset label 443
unset label 444
unset label 445
unset label 446
unset label 447
unset label 448
unset label 449
unset label 450
unset label 451
unset label 452
unset label 453
unset label 454
unset label 455
unset label 456
unset label 457
unset label 458
unset label 459
unset label 460
unset label 461
unset label 462
unset label 463
unset label 464
unset label 465
unset label 466
unset label 467
unset label 468
unset label 469
unset label 470
unset label 471
unset label 472
unset label 473
unset label 474
unset label 475
unset label 476
unset label 477
unset label 478
unset label 479
unset label 480
unset label 481
unset label 482
unset label 483
unset label 484
unset label 485
unset label 486
unset label 487
unset label 488
unset label 489
unset label 490
unset label 491
unset label 492
unset label 493
unset label 494
unset label 495
unset label 496
unset label 497
unset label 498
unset label 499
unset label 500
unset label 501
unset label 502
unset label 503
unset label 504
unset label 505
unset label 506
unset label 507
unset label 508
unset label 509
unset label 510
unset label 511
unset label 512
unset label 513
unset label 514
unset label 515
unset label 516
unset label 517
unset label 518
unset label 519
unset label 520
unset label 521
unset label 522
unset label 523
unset label 524
unset label 525
unset label 526
unset label 527
unset label 528
unset label 529
unset label 530
unset label 531
unset label 532
unset label 533
unset label 534
unset label 535
unset label 536
unset label 537
unset label 538
unset label 539
unset label 540
unset label 541
unset label 542
unset label 543
unset label 544
unset label 545
unset label 546
unset label 547
unset label 548
unset label 549
unset label 550
unset label 551
unset label 552
unset label 553
unset label 554
unset label 555
unset label 556
unset label 557
unset label 558
unset label 559
unset label 560
unset label 561
unset label 562
unset label 563
unset label 564
unset label 565
unset label 566
unset label 567
unset label 568
unset label 569
unset label 570
unset label 571
unset label 572
unset label 573
unset label 574
unset label 575
unset label 576
unset label 577
unset label 578
unset label 579
unset label 580
unset label 581
unset label 582
unset label 583
unset label 584
unset label 585
unset label 586
unset label 587
unset label 588
unset label 589
unset label 590
unset label 591
unset label 592
unset label 593
unset label 594
unset label 595
unset label 596
unset label 597
unset label 598
unset label 599
unset label 600
unset label 601
unset label 602
unset label 603
unset label 604
unset label 605
unset label 606
unset label 607
unset label 608
unset label 609
unset label 610
unset label 611
unset label 612
unset label 613
unset label 614
unset label 615
unset label 616
unset label 617
unset label 618
unset label 619
unset label 620
unset label 621
unset label 622
unset label 623
unset label 624
unset label 625
unset label 626
unset label 627
unset label 628
unset label 629
unset label 630
unset label 631
unset label 632
unset label 633
unset label 634
unset label 635
unset label 636
unset label 637
unset label 638
unset label 639
unset label 640
unset label 641
unset label 642
unset label 643
unset label 644
unset label 645
unset label 646
unset label 647
unset label 648
unset label 649
unset label 650
unset label 651
unset label 652
unset label 653
unset label 654
unset label 655
unset label 656
unset label 657
unset label 658
unset label 659
unset label 660
unset label 661
unset label 662
unset label 663
unset label 664
unset label 665
unset label 666
unset label 667
unset label 668
unset label 669
unset label 670
unset label 671
unset label 672
unset label 673
unset label 674
unset label 675
unset label 676
unset label 677
unset label 678
unset label 679
unset label 680
unset label 681
unset label 682
unset label 683
unset label 684
unset label 685
unset label 686
unset label 687
unset label 688
unset label 689
unset label 690
unset label 691
unset label 692
unset label 693
unset label 694
unset label 695
unset label 696
unset label 697
unset label 698
unset label 699
set label 300 '1 sequence' at first 1, graph -0.125 center noenhanced font 'DejaVu Sans,10'
set label 301 '8 sequences' at first 4.7, graph -0.125 center noenhanced font 'DejaVu Sans,10'
set label 302 '32 sequences' at first 8.4, graph -0.125 center noenhanced font 'DejaVu Sans,10'
set xrange [-0.7:10.1]
set xtics ("1" 0, "2" 1, "4*" 2, "1" 3.7, "2" 4.7, "4*" 5.7, "1" 7.4, "2" 8.4, "4*" 9.4)
set label 299 'nodes' at graph -0.02, graph -0.058 right noenhanced font 'DejaVu Sans,10'
set label 303 '96' at first 0, first 47.8428 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 304 '56' at first 1, first 28.1882 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 305 '19' at first 1, first 66.1013 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 306 '23' at first 1, first 87.128 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 307 '32' at first 2, first 15.7635 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 308 '32' at first 2, first 47.4702 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 309 '34' at first 2, first 80.2646 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 310 '96' at first 3.7, first 47.8122 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 311 '78' at first 4.7, first 39.0504 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 312 '16' at first 4.7, first 85.9617 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 313 '71' at first 5.7, first 35.6579 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 314 '20' at first 5.7, first 81.3332 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 315 '8' at first 5.7, first 95.4708 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 316 '96' at first 7.4, first 47.8583 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 317 '79' at first 8.4, first 39.2874 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 318 '17' at first 8.4, first 87.2553 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
set label 319 '71' at first 9.4, first 35.5115 center noenhanced front tc rgb '#ffffff' font 'DejaVu Sans,9'
set label 320 '24' at first 9.4, first 82.8607 center noenhanced front tc rgb '#000000' font 'DejaVu Sans,9'
$d1 << EOD
0 95.6856 99.9939 99.9939 100
1 56.3765 75.8262 98.4297 100
2 31.5271 63.4134 97.1157 100
3.7 95.6245 99.9985 99.9985 100
4.7 78.1008 93.8227 99.8628 100
5.7 71.3158 91.3505 99.591 100
7.4 95.7165 99.9989 99.9989 100
8.4 78.5748 95.9358 99.8697 100
9.4 71.023 94.6985 99.753 100
EOD
plot $d1 using 1:5 with boxes lc rgb '#999999' notitle, \
     $d1 using 1:4 with boxes lc rgb '#CC79A7' notitle, \
     $d1 using 1:3 with boxes lc rgb '#E69F00' notitle, \
     $d1 using 1:2 with boxes lc rgb '#0072B2' notitle
unset multiplot
